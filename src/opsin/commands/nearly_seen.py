"""Which images are near duplicates of those that a run learnt from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.own_images import OwnImages
from opsin.core.errors import OpsinError
from opsin.core.events import Watcher
from opsin.data.cache import as_keys
from opsin.data.dataset import read_corrected
from opsin.data.decoded_store import Decoded
from opsin.data.near_duplicates import SMALLEST, near_duplicates
from opsin.data.run_images import recipe_of_run
from opsin.data.sources.named import is_place

# Bytes of all images that are compared; more would take longer than the evaluation.
_MOST: Final = 512 << 20


def can_compare(images: int, shape: Sequence[int]) -> bool:
    """Tell whether near duplicates are looked for among so many images of a shape."""
    return min(shape[:2]) >= SMALLEST and images * math.prod(shape) <= _MOST


def nearly_seen(
    own: OwnImages, decoded: Decoded, rows: NDArray[np.int64], watcher: Watcher
) -> NDArray[np.bool_] | None:
    """Tell which images are near duplicates of some that a run learnt from, ``bool[M]``."""
    shape = decoded.images.shape[1:]
    listed = len(decoded.labels) + len(decoded.unreadable)
    if not can_compare(listed, shape):
        return None
    known = _images_of(own, watcher)
    if known is None or known.images.shape[1:] != shape:
        return None
    train, val, _ = own.among(known.digests)
    _, once = np.unique(as_keys(known.digests), return_index=True)
    learnt = once[(train | val)[once]]
    if not can_compare(len(learnt) + listed, shape):
        return None
    near = near_duplicates(
        np.concatenate([known.images[learnt], decoded.images[rows]]),
        np.concatenate([known.digests[learnt], decoded.digests[rows]]),
        mirrored=known.mirrored,
        watcher=watcher,
    )
    one, other = near.pairs.T  # the smaller row first
    keys = as_keys(decoded.digests[rows])
    found = keys[other[(one < len(learnt)) & (other >= len(learnt))] - len(learnt)]
    return np.isin(keys, found) & ~np.isin(keys, as_keys(known.digests[learnt]))


def _images_of(own: OwnImages, watcher: Watcher) -> Decoded | None:
    """Read the images that a run was made from, where they are at hand."""
    try:
        recipe = recipe_of_run(own.run)
        if not all(map(is_place, filter(None, (*recipe.sources, recipe.test)))):
            return None  # which may be on another machine
        return read_corrected(recipe, watcher=watcher, for_training=False, missing_ok=True)[1]
    except OpsinError:
        return None
