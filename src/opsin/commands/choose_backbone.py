"""Whether images ask for a pretrained network, where nobody has named a model."""

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
# A network of these is taken that is on this machine. The large one is slow without a GPU.
_ORDER: Final = ("medium", "small", "large")


def leaves_open(model: str | None, options: Mapping[str, Any]) -> bool:
    """Tell whether a request would fit a pretrained network as well: it has no wish for another."""
    wishes = {name for name, value in options.items() if value is not None}
    return model in (None, "auto") and wishes <= {*DATA_OPTIONS, "seed", "class_mix"}


def network_here() -> str | None:
    """Return the short name of a pretrained network that was fetched before, if there is one."""
    from opsin.backbones.hub_cache import found_here  # noqa: PLC0415  few trainings need it
    from opsin.backbones.hub_name import NAMED  # noqa: PLC0415

    return next((name for name in _ORDER if found_here(NAMED[name].where) is not None), None)


def few_photographs(dataset: Dataset) -> bool:
    """Tell whether images are photographs, and few of a class."""
    height, width, channels = dataset.images.shape[1:]
    labels = dataset.labels[dataset.split.train]
    usual = float(np.median(np.bincount(labels, minlength=len(dataset.classes))))
    return channels == 3 and min(height, width) >= _SIDE and usual <= FEW


def advice() -> str:
    """Return what a pretrained network would bring, and how to get it."""
    from opsin.backbones.hub_name import NAMED  # noqa: PLC0415

    small = NAMED["small"]
    return (
        "none on this machine; with so few photographs one would probably get more right: "
        f"--from small fetches {file_size(small.size)} ({small.licence}) from the hub"
    )
