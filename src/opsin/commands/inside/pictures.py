"""The pictures beside a classifier: its training's own, or others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from opsin.commands.own_parts import load_of_run
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.dataset import Dataset, look_at
from opsin.data.lazy_images import Images
from opsin.data.run_source import is_moved
from opsin.runtime.classifier import Classifier


@dataclass(frozen=True)
class ReferenceSet:
    """Pictures whose classes are known, prepared for a classifier.

    Args:
        images: ``uint8[N, H, W, C]``, to be taken in batches.
        labels: Their classes, places among the classifier's, ``int64[N]``.
        names: What each is called.
        train: Rows that the classifier learnt from, ``int64``; of a source of the user's own,
            those that it would learn from.
        val: Rows that it was chosen by.
        source: Where they come from.
        test: Rows that it was judged by.
        own: Whether they are those of the run that the file lies in.
    """

    images: Images
    labels: NDArray[np.int64]
    names: Sequence[str]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    source: str
    test: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    own: bool = False

    def row_called(self, name: str) -> int | None:
        """Return the row of a picture by its name, or by its part and number: ``test/17``.

        Args:
            name: A picture's own name counts first.
        """
        if name in self.names:
            return list(self.names).index(name)
        part, _, number = name.partition("/")
        rows = {"train": self.train, "val": self.val, "test": self.test}.get(part)
        if rows is None or not number.isdecimal() or int(number) >= len(rows):
            return None
        return int(rows[int(number)])


def known_pictures(
    classifier: Classifier,
    sources: Sequence[str | os.PathLike[str]] = (),
    *,
    watcher: Watcher = SILENT,
) -> ReferenceSet:
    """Return the pictures that a classifier can be looked at with.

    Args:
        classifier: An open classifier.
        sources: Pictures with labels (default: those of the run that the file lies in, or, where
            these were moved, the place they are at now).
        watcher: Is told how far the work is.

    Raises:
        SourceError: There is neither a source nor a run; the run's pictures are gone or have
            changed; the source has classes that the classifier does not know.
    """
    data = _of_run(classifier, sources, watcher)
    own = data is not None
    if data is None:
        preparation = classifier.metadata.preparation
        data = look_at(
            *sources,
            size=(preparation.height, preparation.width),
            channels=preparation.channels,
            resize=preparation.resize,
            watcher=watcher,
        )
    foreign = [name for name in data.classes if name not in classifier.classes]
    if foreign:
        raise SourceError(
            f"classes among {', '.join(classifier.classes)}",
            f"{data.recipe.source} also has {', '.join(foreign[:5])}",
            "Rename the folders, or give other pictures.",
        )
    places = np.array([classifier.classes.index(name) for name in data.classes], np.int64)
    return ReferenceSet(
        data.images,
        places[data.labels],
        data.names,
        data.split.train,
        data.split.val,
        data.recipe.source,
        data.split.test,
        own=own,
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
            return load_of_run(directory, sources, watcher=watcher)
        except OpsinError as error:
            watcher.note(f"these are taken for other images than the run's: {error}")
            return None
    if not directory.recipe.is_file():
        raise SourceError(
            "pictures that the classifier knows",
            f"{classifier.path} lies in no run directory, which would name them",
            "Name them: --data SOURCE.",
        )
    return load_of_run(directory, watcher=watcher)
