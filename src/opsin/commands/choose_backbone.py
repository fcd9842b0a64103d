"""Whether images ask for a pretrained network, if no model is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from opsin.core.format import file_size
from opsin.core.recipe import DATA_OPTIONS
from opsin.data.dataset import Dataset

# Coloured images with a shorter side are no photographs but thumbnails.
_SIDE: Final = 64


@dataclass(frozen=True)
class _MeasuredCurve:
    """What was measured on images of one kind (`python -m benchmarks.pretrained_curve`).

    Args:
        what: What they were.
        right: Of 100 test images, how many were right from scratch and with a pretrained network
            (MobileNetV2), by training images of a class.
        few: Training images of a class up to which a network is taken.
    """

    what: str
    right: Mapping[int, tuple[int, int]]
    few: int


# docs/understand/pretrained-networks.md says how sure each of these is.
_PHOTOGRAPHS: Final = _MeasuredCurve(
    "photographs of each of six kinds of waste",
    {5: (34, 57), 10: (39, 64), 25: (53, 75), 50: (64, 81), 100: (75, 86), 300: (86, 92)},
    few=300,
)
_THUMBNAILS: Final = _MeasuredCurve(
    "images of 32×32 pixels of each of ten things and animals",
    {5: (26, 44), 10: (32, 47), 25: (37, 60), 50: (45, 60), 100: (51, 74), 300: (62, 75)},
    few=300,
)
_GREY: Final = _MeasuredCurve(
    "grey images of 28×28 pixels of each of ten kinds of clothing",
    {5: (62, 74), 10: (67, 78), 25: (75, 83), 50: (76, 85), 100: (87, 90), 300: (90, 88)},
    few=100,
)
# A network of these is taken that is on this machine. The large one is slow without a GPU.
_ORDER: Final = ("medium", "small", "large")


def leaves_open(model: str | None, options: Mapping[str, Any]) -> bool:
    """Tell whether a request would fit a pretrained network as well: it has no wish for another."""
    wishes = {name for name, value in options.items() if value is not None}
    return model in (None, "auto") and wishes <= {*DATA_OPTIONS, "seed", "class_mix"}


def network_here() -> str | None:
    """Return the name on the hub of a pretrained network that was fetched whole, if there is one.

    No file or folder is called like that.
    """
    from opsin.hub.hub_cache import Wanted, found_here  # noqa: PLC0415  few trainings need it
    from opsin.hub.hub_name import PREFIX  # noqa: PLC0415

    found = (found_here(NAMED[name].where) for name in _ORDER)
    return next(
        (f"{PREFIX}{each.where}" for each in found if each and each.is_surely(Wanted.NETWORK)), None
    )


def are_few(dataset: Dataset) -> bool:
    """Tell whether there are so few images of a class that a pretrained network helps."""
    return _of_a_class(dataset) <= _curve_of(dataset).few


def advice(dataset: Dataset) -> str:
    """Return what a pretrained network would bring, and how to get it."""
    from opsin.hub.hub_name import NAMED  # noqa: PLC0415

    small, own, curve = NAMED["small"], _of_a_class(dataset), _curve_of(dataset)
    count = max((each for each in curve.right if each <= own), default=min(curve.right))
    without, with_one = curve.right[count]
    return (
        "no pretrained network on this machine; --from small fetches one "
        f"({file_size(small.size)}, {small.licence}). Trained with {count} {curve.what}, a "
        f"classifier was right on {with_one} of 100 images with one, and on {without} without"
    )


def _curve_of(dataset: Dataset) -> _MeasuredCurve:
    """Return what was measured on images most like these."""
    height, width, channels = dataset.images.shape[1:]
    if channels == 1:
        return _GREY
    return _PHOTOGRAPHS if min(height, width) >= _SIDE else _THUMBNAILS


def _of_a_class(dataset: Dataset) -> float:
    """Return how many training images classes usually have."""
    labels = dataset.labels[dataset.split.train]
    return float(np.median(np.bincount(labels, minlength=len(dataset.classes))))
