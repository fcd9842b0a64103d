"""The images that a classifier is looked at with: those of its run, or others."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.dataset import Dataset, look_at
from opsin.data.reference_set import ReferenceSet
from opsin.data.run_images import is_moved, load_run_images
from opsin.data.spelling import places_among
from opsin.runtime.classifier import Classifier


def known_images(
    classifier: Classifier,
    sources: Sequence[str | os.PathLike[str]] = (),
    *,
    watcher: Watcher = SILENT,
) -> ReferenceSet:
    """Return the images that a classifier can be looked at with."""
    data = _of_run(classifier, sources, watcher)
    own = data is not None
    if data is None:
        preparation = classifier.metadata.preparation
        data = look_at(
            *sources,
            size=(preparation.height, preparation.width),
            channels=preparation.channels,
            resize=preparation.resize,
            bits=preparation.bits or 16,
            watcher=watcher,
        )
    places = np.array(places_among(data.classes, classifier.classes), np.int64)
    foreign = [name for name, place in zip(data.classes, places, strict=True) if place < 0]
    if foreign:
        raise SourceError(
            f"classes among {', '.join(classifier.classes)}",
            f"{data.recipe.source} also has {', '.join(foreign[:5])}",
            "Rename the folders, or give other images.",
        )
    return ReferenceSet(
        data.images,
        places[data.labels],
        data.names,
        data.split.train,
        data.split.val,
        data.recipe.source,
        data.split.test,
        own=own,
        groups=data.units,
    )


def _of_run(
    classifier: Classifier, sources: Sequence[str | os.PathLike[str]], watcher: Watcher
) -> Dataset | None:
    """Return the images of the run that the file lies in; ``None`` where ``sources`` are others."""
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
            "images that the classifier knows",
            f"{classifier.path} lies in no run directory, which would name them",
            "Name them: --data SOURCE.",
        )
    return load_run_images(directory, watcher=watcher)
