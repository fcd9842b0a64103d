"""Which pretrained network images get, and how it looks at them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from opsin.backbones.named_backbones import NAMED
from opsin.classical.classical_recipe import BACKBONE
from opsin.commands.backbones import measured_backbone
from opsin.core.errors import MissingExtraError, ModelFileError, RecipeError
from opsin.core.events import Watcher
from opsin.core.recipe import DATA_OPTIONS
from opsin.data.dataset import Dataset

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone
    from opsin.backbones.feature_graph import View

#: Training images from which on each is looked at once, and through a network's last features
#: alone: more of them tell more than more views and depths.
MANY_IMAGES: Final = 20_000
# Seconds that the features of all images may take: for the better network, and for the quicker.
_SECONDS: Final = {"efficientnet-lite2": 120.0, "efficientnet-lite0": 600.0}
# Times as long as this, and no busy machine explains it.
_BUSY: Final = 20
# Share of a budget that these may take.
_SHARE: Final = 0.5
_FROZEN: Final = "Leave --fine-tune out: frozen features still work, and need no PyTorch."


def model_asked(model: str | None, options: Mapping[str, Any]) -> str | None:
    """Return the model's name: a pretrained network that is given asks for a head on it."""
    given = options.get("backbone") is not None
    what = "to fine-tune" if options.get("fine_tune") else "to build on"
    if not given and (model == BACKBONE or options.get("fine_tune")):
        raise RecipeError(f"a pretrained network {what}", "none is given", "Name one: --from FILE.")
    if given and model not in (None, "auto", BACKBONE):
        raise RecipeError(
            "a pretrained network or a model",
            f"got both, {options['backbone']} and {model}",
            "Leave one out: --from or --model.",
        )
    return BACKBONE if given else model


def open_given(
    data: object, options: dict[str, Any], *, offline: bool, watcher: Watcher
) -> Backbone:
    """Open the pretrained network, and fill in the options by which images are prepared for it."""
    from opsin.backbones.backbone import open_backbone  # noqa: PLC0415  loads onnx
    from opsin.backbones.feature_graph import usual_preparation  # noqa: PLC0415

    backbone = open_backbone(
        options["backbone"], prepare=options.get("prepare"), at=options.get("at"),
        offline=offline, watcher=watcher,
    )  # fmt: skip
    if options.get("fine_tune"):
        check_fine_tuning(backbone)
    options["backbone"] = str(backbone.where or os.fspath(options["backbone"]))
    if not isinstance(data, Dataset):
        usual = usual_preparation(backbone)
        for name, value in (
            ("size", (usual.height, usual.width)),
            ("channels", usual.channels),
            ("resize", usual.resize),
        ):
            if options.get(name) is None:
                options[name] = value
    return backbone


def check_fine_tuning(backbone: Backbone) -> None:
    """See that a network can be fine-tuned, before anything is computed."""
    try:
        from opsin.models.onnx_network import check_gradients  # noqa: PLC0415  needs PyTorch
    except MissingExtraError as error:
        missing = MissingExtraError("fine-tuning", "train")
        missing.advice = f"{error.advice} {_FROZEN}"
        raise missing from error
    from opsin.backbones.backbone import trainable  # noqa: PLC0415

    try:
        check_gradients(trainable(backbone).graph.leading_to(backbone.at[:1]))
    except ModelFileError as error:
        raise ModelFileError(
            "a network whose operators have gradients",
            f"{backbone.name}: {error.received}",
            _FROZEN,
        ) from error


def leaves_open(model: str | None, options: Mapping[str, Any]) -> bool:
    """Tell whether a request would fit a pretrained network as well: it has no wish for another."""
    wishes = {name for name, value in options.items() if value is not None}
    return model in (None, "auto") and wishes <= {*DATA_OPTIONS, "seed", "class_mix"}


def are_here() -> bool:
    """Tell whether the networks in the box, and ONNX that reads them, are installed."""
    try:
        importlib.import_module("onnx")
    except ImportError:
        return False
    return all(NAMED[name].path is not None for name in _SECONDS)


def network_in_time(dataset: Dataset, budget: float | None = None) -> str | None:
    """Return the best network in the box whose features of all images are computed in time."""
    looks, quick = len(dataset) * len(views_of(dataset, len(dataset.split.train))), None
    for name, most in _SECONDS.items():
        seconds = looks * measured_backbone(name, anew=False).milliseconds / 1000
        if most < seconds < _BUSY * most:
            seconds = looks * measured_backbone(name, anew=True).milliseconds / 1000
        if seconds <= most:
            quick = name
            if budget is None or seconds <= _SHARE * budget:
                return name
    return quick


def views_of(dataset: Dataset, learnt: int) -> tuple[View, ...]:
    """Return how images are looked at by a head that learns from so many of them."""
    if learnt > MANY_IMAGES or not dataset.mirrored:  # mirrored, they would mean something else
        return ("whole",)
    return ("whole", "mirrored")
