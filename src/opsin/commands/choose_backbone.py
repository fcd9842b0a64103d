"""Whether images ask for a pretrained network, if no model is named, and for which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from opsin.backbones.named_backbones import NAMED
from opsin.commands.backbones import measured_backbone
from opsin.core.recipe import DATA_OPTIONS
from opsin.data.dataset import Dataset

# Coloured images with a shorter side are no photographs but thumbnails.
_SIDE: Final = 64
# Training images of a class up to which a network is taken for thumbnails and for grey images:
# with more, training from nothing is better (`python -m benchmarks.pretrained_curve`).
_THUMBNAILS, _GREY = 300, 100
# Seconds that the features of all images may take: for the better network, and for the quicker.
_SECONDS: Final = {"efficientnet-lite2": 120.0, "efficientnet-lite0": 600.0}
# How an image is looked at: whole and mirrored.
_VIEWS: Final = 2


def leaves_open(model: str | None, options: Mapping[str, Any]) -> bool:
    """Tell whether a request would fit a pretrained network as well: it has no wish for another."""
    wishes = {name for name, value in options.items() if value is not None}
    return model in (None, "auto") and wishes <= {*DATA_OPTIONS, "seed", "class_mix"}


def are_here() -> bool:
    """Tell whether the networks in the box are installed."""
    return all(NAMED[name].path is not None for name in _SECONDS)


def network_for(dataset: Dataset) -> str | None:
    """Return the name of the network in the box that suits images; ``None`` where none does."""
    height, width, channels = dataset.images.shape[1:]
    if channels == 1 or min(height, width) < _SIDE:
        labels = dataset.labels[dataset.split.train]
        usual = float(np.median(np.bincount(labels, minlength=len(dataset.classes))))
        if usual > (_GREY if channels == 1 else _THUMBNAILS):
            return None
    return next(
        (
            name
            for name, most in _SECONDS.items()
            if len(dataset) * _VIEWS * measured_backbone(name).milliseconds / 1000 <= most
        ),
        None,
    )
