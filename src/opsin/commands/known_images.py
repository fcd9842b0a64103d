"""The images known for a classifier, and near copies of its training images."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Final

import numpy as np

from opsin.commands.test_set_usage import OwnImages
from opsin.core.arrays import Bools, Ints
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.stored_json import JsonObject
from opsin.data.cache import as_keys
from opsin.data.corrections import Decoded
from opsin.data.dataset import Dataset, look_at, read_corrected
from opsin.data.lazy_images import ReferenceSet
from opsin.data.near_duplicates import SMALLEST, near_duplicates
from opsin.data.run_images import is_moved, load_run_images, recipe_of_run
from opsin.data.sources.named import is_place
from opsin.data.spelling import places_among
from opsin.runtime.classifier import Classifier

# Bytes of all images that are compared; more would take longer than the evaluation.
_MOST: Final = 512 << 20


def known_images(
    classifier: Classifier,
    sources: Sequence[str | os.PathLike[str]] = (),
    *,
    watcher: Watcher = SILENT,
) -> ReferenceSet:
    """Return the images of a classifier's run, or of other sources."""
    data = _of_run(classifier, sources, watcher)
    is_run = data is not None
    if data is None:
        data = look_at(*sources, **prepared_for(classifier), watcher=watcher)
    class_index = known_classes(classifier, data.classes, data.recipe.source)
    split = data.split
    return ReferenceSet(
        data.images,
        class_index[data.labels],
        data.names,
        split.train,
        split.val,
        data.recipe.source,
        split.test,
        own=is_run,
        groups=data.units,
    )


def prepared_for(classifier: Classifier) -> JsonObject:
    """Return the fields of a `DataRecipe` that prepares images as a classifier takes them."""
    like = classifier.metadata.preparation
    size, channels = like.shape[:2], like.channels
    return {"size": size, "channels": channels, "resize": like.resize, "bits": like.bits or 16}


def known_classes(classifier: Classifier, classes: Sequence[str], source: str) -> Ints:
    """Return each class's index among the classifier's; raise `SourceError` for others."""
    indices = places_among(classes, classifier.classes)
    foreign = [name for name, index in zip(classes, indices, strict=True) if index < 0]
    if foreign:
        raise SourceError(
            f"{source} also has {', '.join(foreign[:5])}, which the classifier does not know",
            f"Rename folders, or give other images: it knows {', '.join(classifier.classes)}.",
        )
    return np.array(indices, np.int64)


def _of_run(
    classifier: Classifier, sources: Sequence[str | os.PathLike[str]], watcher: Watcher
) -> Dataset | None:
    """Return the images of the file's run, or ``None`` if ``sources`` are others."""
    directory = RunDirectory(classifier.path.parent)
    if sources:
        if not directory.recipe.is_file() or not is_moved(directory):
            return None
        try:
            return load_run_images(directory, sources, watcher=watcher)
        except OpsinError as error:
            watcher.note(f"these are taken for other images than the run's: {error}")
            return None
    if not directory.recipe.is_file():
        raise SourceError(
            f"{classifier.path} lies in no run directory, which would name images that it knows",
            "Name them: --data SOURCE.",
        )
    return load_run_images(directory, watcher=watcher)


def can_compare(images: int, shape: Sequence[int]) -> bool:
    """Tell whether so many images of a shape are searched for near duplicates."""
    return min(shape[:2]) >= SMALLEST and images * math.prod(shape) <= _MOST


def nearly_seen(
    run_images: OwnImages, decoded: Decoded, rows: Ints, watcher: Watcher
) -> Bools | None:
    """Tell which images are near duplicates of a run's training images, ``bool[M]``."""
    shape = decoded.images.shape[1:]
    listed = len(decoded.labels) + len(decoded.unreadable)
    if not can_compare(listed, shape):
        return None
    try:
        recipe = recipe_of_run(run_images.run)
        if not all(map(is_place, filter(None, (*recipe.sources, recipe.test)))):
            return None  # which may be on another machine
        known = read_corrected(recipe, watcher=watcher, for_training=False, missing_ok=True)[1]
    except OpsinError:  # they are not at hand
        return None
    if known.images.shape[1:] != shape:
        return None
    train, val, _ = run_images.among(known.digests)
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
    copies = keys[other[(one < len(learnt)) & (other >= len(learnt))] - len(learnt)]
    return np.isin(keys, copies) & ~np.isin(keys, as_keys(known.digests[learnt]))
