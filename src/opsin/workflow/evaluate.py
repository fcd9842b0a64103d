"""How good a file is, on its own run's pictures or on others."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.data.cache import Decoded, short_digest
from opsin.data.dataset import Dataset, fingerprint_of
from opsin.data.decode import read
from opsin.data.lazy import Images
from opsin.data.split import TEST
from opsin.errors import SourceError
from opsin.events import SILENT, Watcher
from opsin.metadata import Score
from opsin.predict import Classifier
from opsin.recipe import DataRecipe
from opsin.run import RunDirectory


@dataclass(frozen=True)
class RunEvaluation:
    """The figures of a run's file.

    Args:
        split: Which part the verdict rests on: ``test`` or, where there is none, ``val``.
        figures: What `opsin.evaluation.metrics.measure` says of each part.
    """

    split: Literal["test", "val"]
    figures: dict[str, Any]

    @property
    def score(self) -> Score:
        """The verdict, as it travels in the file."""
        figures = self.figures[self.split]
        return Score(
            split=self.split,
            images=figures["images"],
            accuracy=figures["accuracy"],
            low=figures["low"],
            high=figures["high"],
        )


def answers(
    classifier: Classifier,
    images: Images,
    rows: NDArray[np.int64],
    what: str,
    watcher: Watcher,
) -> NDArray[np.float32]:
    """Return the file's probabilities for some rows of ``images``, ``float32[N, K]``."""
    watcher.begin(what, len(rows), "pictures")
    parts: list[NDArray[np.float32]] = []
    done = 0
    for part in classifier.iter_probabilities(images, rows):
        parts.append(part)
        done += len(part)
        watcher.advance(done)
    watcher.end()
    return np.concatenate(parts)


def evaluate_run(directory: RunDirectory, dataset: Dataset, watcher: Watcher) -> RunEvaluation:
    """Evaluate a run's file on validation data and, once, on the test set.

    The answers are kept in ``predictions.npz``.
    """
    from opsin.evaluation.metrics import measure  # noqa: PLC0415  scipy takes a second to load

    classifier = Classifier(directory.classifier)
    kept: dict[str, NDArray[Any]] = {}
    figures: dict[str, Any] = {}
    for part, title in (("val", "Valid."), ("test", "Test")):
        rows = dataset.split.rows(part)
        if not len(rows):
            continue
        probabilities = answers(classifier, dataset.images, rows, title, watcher)
        labels = dataset.labels[rows]
        kept |= {f"{part}_rows": rows, f"{part}_labels": labels}
        kept[f"{part}_probabilities"] = probabilities
        figures[part] = measure(probabilities, labels, dataset.classes)
    directory.save_arrays(directory.predictions, **kept)
    return RunEvaluation("test" if "test" in figures else "val", figures)


def evaluate(
    model: str | os.PathLike[str] | Classifier,
    *sources: str | os.PathLike[str],
    watcher: Watcher = SILENT,
    **options: Any,
) -> dict[str, Any]:
    """Evaluate a classifier on pictures with labels.

    Judged are the test part, where the source names one; else those pictures that the classifier
    has not seen in its training; else all of them. They are prepared as the file asks, whatever
    their own size.

    Args:
        model: A run directory, a ``classifier.onnx`` or an open classifier.
        *sources: Pictures with labels; their classes must be among the classifier's.
        watcher: Is told how far the work is.
        **options: Fields of `DataRecipe` that say how to read: ``classes``, ``columns`` …

    Returns:
        What `opsin.evaluation.metrics.measure` says, with ``model``, ``source``, ``part``
        (``test``, ``unseen``, ``val`` or ``all``), ``seen`` (how many of the pictures judged the
        classifier learnt from, or was chosen by; ``None`` where a file without its run cannot
        tell), ``unreadable`` and ``seconds``.

    Raises:
        SourceError: The source is unusable or has classes that the classifier does not know.
    """
    from opsin.evaluation.metrics import measure  # noqa: PLC0415

    classifier = model if isinstance(model, Classifier) else Classifier(model)
    preparation = classifier.metadata.preparation
    recipe = DataRecipe.of(
        *[os.fspath(source) for source in sources],
        size=(preparation.height, preparation.width),
        channels=preparation.channels,
        resize=preparation.resize,
        **options,
    )
    decoded = read(recipe, watcher=watcher, for_training=False)
    names = decoded.about["classes"]
    foreign = [name for name in names if name not in classifier.classes]
    if foreign:
        raise SourceError(
            f"classes among {', '.join(classifier.classes)}",
            f"{recipe.source} also has {', '.join(foreign[:5])}",
            "Leave them out with --classes, or rename the folders.",
        )
    judged = _judge(classifier, decoded)
    rows = judged.rows
    began = time.perf_counter()
    probabilities = answers(classifier, decoded.images, rows, "Test", watcher)
    seconds = time.perf_counter() - began
    own = np.array([classifier.classes.index(name) for name in names], np.int64)
    return {
        "model": str(classifier.path),
        "source": recipe.source,
        "part": judged.part,
        "seen": judged.seen,
        "unreadable": len(decoded.unreadable),
        "seconds": seconds,
        **measure(probabilities, own[decoded.labels[rows]], classifier.classes),
    }


@dataclass(frozen=True)
class _Judged:
    """Which rows are judged, why these, and how many of them the classifier has seen."""

    part: Literal["test", "unseen", "val", "all"]
    rows: NDArray[np.int64]
    seen: int | None


def _judge(classifier: Classifier, decoded: Decoded) -> _Judged:
    """Choose the rows to judge by, and count those that the classifier learnt from.

    Pictures are told by their content: neither names nor order matter.
    """
    test = np.flatnonzero(decoded.given == TEST)
    everything = np.arange(len(decoded.labels))
    run = RunDirectory(classifier.path.parent)
    if not run.split.is_file():
        # A file alone knows its training pictures as a whole only.
        rows = test if test.size else everything
        own = fingerprint_of(decoded) == classifier.metadata.fingerprint
        if own:
            return _Judged("test" if test.size else "all", rows, 0 if test.size else len(rows))
        return _Judged("test" if test.size else "all", rows, None)
    split = run.load_arrays(run.split)
    learnt = {split["digests"][row].tobytes() for row in split["train"]}
    chosen_by = {split["digests"][row].tobytes() for row in split["val"]}
    digests = [short_digest(digest).tobytes() for digest in decoded.digests]
    seen = np.array([digest in learnt or digest in chosen_by for digest in digests])
    if test.size:
        return _Judged("test", test, int(seen[test].sum()))
    if not seen.any():
        return _Judged("all", everything, 0)
    if not seen.all():
        return _Judged("unseen", np.flatnonzero(~seen), 0)
    val = np.array([digest in chosen_by for digest in digests])
    if val.any():
        return _Judged("val", np.flatnonzero(val), int(val.sum()))
    return _Judged("all", everything, len(everything))
