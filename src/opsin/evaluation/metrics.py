"""How good a classifier's answers are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_report import ClassFigures, ConfusedPair, PartFigures
from opsin.core.errors import MissingExtraError
from opsin.evaluation.curves import measure_curves
from opsin.evaluation.intervals import wilson
from opsin.evaluation.metric_table import METRICS
from opsin.evaluation.scored_answers import ScoredAnswers

try:
    from sklearn.metrics import precision_recall_fscore_support
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error


def measure(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]
) -> PartFigures:
    """Measure the answers to one set of images.

    Args:
        probabilities: ``float32[N, K]``, rows that sum to 1.
        labels: The right classes, ``int64[N]``; N is at least 1.
        classes: K names.

    Returns:
        Beside its fields the value of each of `METRICS` by its key. Intervals are Wilson's for
        shares of images, else the bootstrap's. A class without images is in no mean. ``confused``
        holds the pairs most often mistaken, the worst first.
    """
    scored = ScoredAnswers(probabilities, labels)
    found = {metric.key: metric.compute(scored) for metric in METRICS}
    curves, ends_of_areas = measure_curves(probabilities, labels, classes)
    known = {key: each[1] for key, each in found.items() if each is not None and each[1]}
    intervals = known | ends_of_areas
    low, high = intervals["accuracy"]
    return PartFigures.model_validate({
        "images": len(labels),
        "low": low,
        "high": high,
        **{key: None if each is None else each[0] for key, each in found.items()},
        "reliability": scored.reliability,
        "intervals": {name: list(ends) for name, ends in intervals.items()},
        "classes": _of_classes(scored.confusion, classes, scored.f1_ends),
        "confusion": scored.confusion.tolist(),
        "confused": _confused(scored.confusion, classes),
        "curves": curves,
    })  # fmt: skip


def _of_classes(
    confusion: NDArray[np.int64],
    classes: Sequence[str],
    f1_ends: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> list[ClassFigures]:
    everything = np.arange(len(classes))
    row, column = np.nonzero(confusion)
    precision, recall, f1, count = precision_recall_fscore_support(
        row, column, labels=everything, zero_division=0.0, sample_weight=confusion[row, column]
    )
    given = confusion.sum(axis=0)
    return [
        ClassFigures(
            name=name,
            precision=float(precision[i]),
            precision_interval=list(wilson(int(confusion[i, i]), int(given[i]))),
            recall=float(recall[i]),
            recall_interval=list(wilson(int(confusion[i, i]), int(count[i]))),
            f1=float(f1[i]),
            f1_interval=[float(f1_ends[0][i]), float(f1_ends[1][i])],
            count=int(count[i]),
            answers=int(given[i]),
        )
        if count[i]
        # Nothing can be said of a class without images, least of all that it is never found.
        else ClassFigures(
            name=name,
            precision=None,
            precision_interval=None,
            recall=None,
            recall_interval=None,
            f1=None,
            f1_interval=None,
            count=0,
            answers=int(given[i]),
        )
        for i, name in enumerate(classes)
    ]


def _confused(confusion: NDArray[np.int64], classes: Sequence[str]) -> list[ConfusedPair]:
    """Rank the pairs of right class and answer by how often they were mistaken."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[: min(20, mistakes.size)]
    pairs = [np.unravel_index(place, mistakes.shape) for place in order]
    return [
        ConfusedPair(
            actual=classes[actual],
            predicted=classes[predicted],
            count=int(mistakes[actual, predicted]),
            of=int(confusion[actual].sum()),
        )
        for actual, predicted in pairs
        if mistakes[actual, predicted]
    ]
