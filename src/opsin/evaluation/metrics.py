"""How good a classifier's answers are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_report import FEW_GROUPS, ClassFigures, ConfusedPair, PartFigures
from opsin.core.errors import MissingExtraError
from opsin.evaluation.curves import measure_curves
from opsin.evaluation.intervals import share, widened
from opsin.evaluation.metric_table import METRICS
from opsin.evaluation.scored_answers import ScoredAnswers

try:
    from sklearn.metrics import precision_recall_fscore_support
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

# Figures that may be larger than 1.
_LOSSES: Final = ("log_loss", "brier")


def measure(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    groups: NDArray[np.int64] | None = None,
) -> PartFigures:
    """Measure the answers to one set of images."""
    scored = ScoredAnswers(probabilities, labels, groups)
    found = {metric.key: metric.compute(scored) for metric in METRICS}
    curves, ends_of_areas = measure_curves(probabilities, labels, classes, scored.groups)
    known = {key: each[1] for key, each in found.items() if each is not None and each[1]}
    intervals = known | ends_of_areas
    low, high = intervals["accuracy"]
    groups_there = None if scored.groups is None else int(scored.groups.max()) + 1
    return PartFigures.model_validate({
        "images": len(labels),
        "groups": groups_there,
        "few_groups": groups_there is not None and groups_there < FEW_GROUPS,
        "low": low,
        "high": high,
        **{key: None if each is None else each[0] for key, each in found.items()},
        "reliability": scored.reliability,
        "intervals": {name: list(ends) for name, ends in intervals.items()},
        "classes": _of_classes(scored, classes),
        "confusion": scored.confusion.tolist(),
        "confused": _confused(scored.confusion, classes),
        "curves": curves,
    })  # fmt: skip


def widen(figures: PartFigures) -> PartFigures:
    """Return the figures of out-of-fold answers with intervals as wide as `widened` makes them."""
    found: Any = figures.to_json()
    values = found["curves"] | found
    for name, ends in found["intervals"].items():
        ends[:] = widened(values[name], ends, most=math.inf if name in _LOSSES else 1.0)
    for entry in found["classes"]:
        for key in ("precision", "recall", "f1"):
            if entry[key] is not None:
                entry[f"{key}_interval"] = widened(entry[key], entry[f"{key}_interval"])
    earlier = (found.get("corrected") or {}).get("earlier")
    for part, key in ((found, "accuracy"), (found.get("refused"), "share"), (earlier, "accuracy")):
        if part:
            part["low"], part["high"] = widened(part[key], (part["low"], part["high"]))
    return PartFigures.model_validate(found)


def _of_classes(scored: ScoredAnswers, classes: Sequence[str]) -> list[ClassFigures]:
    confusion, f1_ends = scored.confusion, scored.f1_ends
    right = scored.answers == scored.labels

    def among(which: NDArray[np.bool_]) -> list[float]:
        groups = None if scored.groups is None else scored.groups[which]
        return list(share(right[which], groups))

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
            precision_interval=among(scored.answers == i),
            recall=float(recall[i]),
            recall_interval=among(scored.labels == i),
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
