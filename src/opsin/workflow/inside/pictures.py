"""The pictures beside a classifier: its training's own, or others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from opsin.data.dataset import Dataset, load_recipe, look_at
from opsin.data.lazy import Images
from opsin.errors import SourceError
from opsin.events import SILENT, Watcher
from opsin.predict import Classifier
from opsin.run import RunDirectory
from opsin.workflow.own_parts import in_own_parts
from opsin.workflow.runs import Run


@dataclass(frozen=True)
class Known:
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
) -> Known:
    """Return the pictures that a classifier can be looked at with.

    Args:
        classifier: An open classifier.
        sources: Pictures with labels (default: those of the run that the file lies in).
        watcher: Is told how far the work is.

    Raises:
        SourceError: There is neither a source nor a run; the run's pictures are gone or have
            changed; the source has classes that the classifier does not know.
    """
    if sources:
        preparation = classifier.metadata.preparation
        data = look_at(
            *sources,
            size=(preparation.height, preparation.width),
            channels=preparation.channels,
            resize=preparation.resize,
            watcher=watcher,
        )
    else:
        data = _of_run(classifier, watcher)
    foreign = [name for name in data.classes if name not in classifier.classes]
    if foreign:
        raise SourceError(
            f"classes among {', '.join(classifier.classes)}",
            f"{data.recipe.source} also has {', '.join(foreign[:5])}",
            "Rename the folders, or give other pictures.",
        )
    own = np.array([classifier.classes.index(name) for name in data.classes], np.int64)
    return Known(
        data.images,
        own[data.labels],
        data.names,
        data.split.train,
        data.split.val,
        data.recipe.source,
        data.split.test,
        own=not sources,
    )


def _of_run(classifier: Classifier, watcher: Watcher) -> Dataset:
    directory = RunDirectory(classifier.path.parent)
    if not directory.recipe.is_file():
        raise SourceError(
            "pictures that the classifier knows",
            f"{classifier.path} lies in no run directory, which would name them",
            "Name them: --data SOURCE.",
        )
    run = Run(directory.path)
    data = load_recipe(run.recipe.data.model_copy(update=directory.location()), watcher=watcher)
    if data.fingerprint != directory.read(directory.dataset)["fingerprint"]:
        raise SourceError(
            f"the pictures that {directory.path} was trained on",
            f"{data.recipe.source} has changed since",
            "Restore them, or name others: --data SOURCE.",
        )
    return in_own_parts(directory, data)
