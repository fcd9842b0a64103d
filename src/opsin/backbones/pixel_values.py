"""Pixels of a pretrained network: their scale, mean, deviation and order of colours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsin.core.errors import RecipeError

#: Values of ``--prepare`` beside a JSON file; each also with ``,bgr``.
CHOICES: Final = ("imagenet", "-1..1", "0..1", "0..255")
# Files that other libraries write beside a network, in the order of looking.
_BESIDE: Final = ("preprocessor_config.json", "config.json")
_LARGEST: Final = 1 << 20

_Finite = Annotated[float, Field(ge=-1e6, le=1e6)]
_Positive = Annotated[float, Field(gt=0, le=1e6)]
_Side = Annotated[int, Field(ge=4, le=1024)]


class PixelValues(BaseModel):
    """Scaling of pixels 0 to 255 to a network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: _Positive
    mean: tuple[_Finite, _Finite, _Finite] = (0.0, 0.0, 0.0)
    deviation: tuple[_Positive, _Positive, _Positive] = (1.0, 1.0, 1.0)
    bgr: bool = False
    side: _Side | None = None
    stated: str = ""

    @classmethod
    def named(cls, text: str) -> PixelValues:
        """Return the preparation of one of `CHOICES` or of a JSON file."""
        word, _, order = text.partition(",")
        if word in _NAMED and order in ("", "bgr"):
            stated = f"--prepare={text}"
            return _NAMED[word].model_copy(update={"bgr": order == "bgr", "stated": stated})
        if text.endswith(".json") and (values := _read(Path(text))) is not None:
            return values
        raise RecipeError(
            f"{text!r} is no preparation: {', '.join(CHOICES)} (each also with ,bgr), or a JSON "
            "file with image_mean and image_std, or mean and std",
            "Look for it where the network was published.",
        )

    @classmethod
    def beside(cls, file: Path) -> PixelValues | None:
        """Return the preparation in a file beside a network or in the folder above, if any."""
        folders = (file.parent, file.parent.parent)
        contents = (_read(folder / name) for folder in folders for name in _BESIDE)
        return next((values for values in contents if values is not None), None)

    def of_pixel(self, pixel: float) -> tuple[float, ...]:
        """Return the value of a grey pixel for each colour."""
        values = (pixel * self.scale - np.array(self.mean)) / np.array(self.deviation)
        return tuple(float(value) for value in values)

    def same_as(self, other: PixelValues) -> bool:
        """Tell whether both prepare images the same way."""
        ours, theirs = ((values.of_pixel(0), values.of_pixel(255)) for values in (self, other))
        return self.bgr == other.bgr and np.allclose(ours, theirs, atol=1e-3)

    @property
    def words(self) -> str:
        """A description in a few words."""
        low, high = self.of_pixel(0), self.of_pixel(255)
        spread = f"{min(low):.3g} to {max(high):.3g}"
        return f"{'BGR' if self.bgr else 'RGB'}, {spread} ({self.stated})"


_NAMED: Final = {
    "imagenet": PixelValues(
        scale=1 / 255, mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225)
    ),
    "-1..1": PixelValues(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),
    "0..1": PixelValues(scale=1 / 255),
    "0..255": PixelValues(scale=1.0),
}


def _read(path: Path) -> PixelValues | None:
    """Read a config file of transformers or timm; ``None`` if it states no preparation."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    content = content.get("pretrained_cfg", content) if isinstance(content, dict) else None
    if not isinstance(content, dict):
        return None
    if "image_mean" in content and "image_std" in content:  # transformers
        rescaled = content.get("do_rescale", True)
        fields = {
            "scale": content.get("rescale_factor", 1 / 255) if rescaled else 1.0,
            "bgr": bool(content.get("do_flip_channel_order", False)),
        }
        if content.get("do_normalize", True):
            fields |= {"mean": content["image_mean"], "deviation": content["image_std"]}
        side = content.get("crop_size") or content.get("size")
        if isinstance(side, dict):
            side = side.get("height", side.get("shortest_edge"))
    elif "mean" in content and "std" in content:  # timm
        fields = {
            "scale": content.get("scale", 1 / 255),
            "mean": content["mean"],
            "deviation": content["std"],
            "bgr": bool(content.get("bgr", False)),
        }
        shape = content.get("input_size")
        side = shape[-1] if isinstance(shape, list) and len(shape) == 3 else None
    else:
        return None
    fields["side"] = side if isinstance(side, int) else None
    try:
        return PixelValues(**fields, stated=path.name)
    except (ValidationError, TypeError) as error:
        raise RecipeError(
            f"The numbers in {path.name} are none that images could be prepared with",
            f"Say it instead: --prepare with one of {', '.join(CHOICES)}.",
        ) from error
