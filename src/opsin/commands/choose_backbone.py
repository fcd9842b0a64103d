"""Whether images ask for a pretrained network, if no model is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from opsin.core.format import file_size
from opsin.core.recipe import DATA_OPTIONS
from opsin.data.dataset import Dataset

#: Photographs of so many training images a class, or fewer, are few.
FEW: Final = 300
# Images with a shorter side are drawings, digits or thumbnails: networks that have seen photographs
# say less about them.
_SIDE: Final = 64
# Of 100 photographs right without and with MobileNetV2, by training images of a class, on TrashNet
# (`python -m benchmarks.pretrained_curve`, docs/how-to/few-images.md).
_CURVE: Final = {5: (34, 57), 10: (39, 64), 25: (53, 75), 50: (64, 81)}
# A network of these is taken that is on this machine. The large one is slow without a GPU.
_ORDER: Final = ("medium", "small", "large")


def leaves_open(model: str | None, options: Mapping[str, Any]) -> bool:
    """Tell whether a request would fit a pretrained network as well: it has no wish for another."""
    wishes = {name for name, value in options.items() if value is not None}
    return model in (None, "auto") and wishes <= {*DATA_OPTIONS, "seed", "class_mix"}


def network_here() -> str | None:
    """Return the short name of a pretrained network that was fetched before, if there is one."""
    from opsin.hub.hub_cache import found_here  # noqa: PLC0415  few trainings need it
    from opsin.hub.hub_name import NAMED  # noqa: PLC0415

    return next((name for name in _ORDER if found_here(NAMED[name].where) is not None), None)


def few_photographs(dataset: Dataset) -> bool:
    """Tell whether images are photographs, and few of a class."""
    height, width, channels = dataset.images.shape[1:]
    return channels == 3 and min(height, width) >= _SIDE and _of_a_class(dataset) <= FEW


def advice(dataset: Dataset) -> str:
    """Return what a pretrained network would bring, and how to get it."""
    from opsin.hub.hub_name import NAMED  # noqa: PLC0415

    small, own = NAMED["small"], _of_a_class(dataset)
    count = max((each for each in _CURVE if each <= own), default=min(_CURVE))
    without, with_one = _CURVE[count]
    return (
        "no pretrained network on this machine; --from small fetches one "
        f"({file_size(small.size)}, {small.licence}). Trained with {count} photographs of each of "
        f"six kinds of waste, a classifier was right on {with_one} of 100 images with one, and on "
        f"{without} without"
    )


def _of_a_class(dataset: Dataset) -> float:
    """Return how many training images classes usually have."""
    labels = dataset.labels[dataset.split.train]
    return float(np.median(np.bincount(labels, minlength=len(dataset.classes))))
