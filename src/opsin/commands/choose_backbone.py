"""Whether images ask for a pretrained network, if no model is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from opsin.core.format import file_size
from opsin.core.recipe import DATA_OPTIONS
from opsin.data.dataset import Dataset

# Training images of a class up to which a network is taken, by the kind of image.
# docs/understand/pretrained-networks.md says with which one that was measured, and how sure it is.
_FEW_IN_COLOUR: Final = 300
_FEW_GREY: Final = 100
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
    from opsin.hub.hub_name import NAMED, PREFIX  # noqa: PLC0415

    found = (found_here(NAMED[name].where) for name in _ORDER)
    return next(
        (f"{PREFIX}{each.where}" for each in found if each and each.is_surely(Wanted.NETWORK)), None
    )


def are_few(dataset: Dataset) -> bool:
    """Tell whether there are so few images of a class that a pretrained network helps."""
    labels = dataset.labels[dataset.split.train]
    usual = float(np.median(np.bincount(labels, minlength=len(dataset.classes))))
    return usual <= (_FEW_GREY if dataset.images.shape[3] == 1 else _FEW_IN_COLOUR)


def advice() -> str:
    """Return how to get a pretrained network, where there are few images and none is here."""
    from opsin.hub.hub_name import NAMED  # noqa: PLC0415

    small = NAMED["small"]
    return (
        "a pretrained network often helps with so few images, and none is on this machine; "
        f"--from small fetches one ({file_size(small.size)}, {small.licence})"
    )
