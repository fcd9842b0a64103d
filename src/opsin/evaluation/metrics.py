"""Metrics of a classifier's answers, with intervals, curves and calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np

from opsin.core.arrays import Bools, Doubles, Floats, Ints
from opsin.core.artifacts.run_report import (
    FEW_GROUPS,
    ClassCurves,
    ClassFigures,
    ConfusedPair,
    Curves,
    PartFigures,
)
from opsin.core.errors import MissingExtraError
from opsin.evaluation.intervals import (
    FEWEST,
    by_groups,
    effective_groups,
    number_groups,
    of_counts,
    of_mean,
    pooled,
    resamples,
    share,
    widened,
    without_each_group,
)
from opsin.evaluation.metric_table import METRICS, Scored

try:
    import sklearn.metrics
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

# Figures that may be larger than 1.
_LOSSES: Final = ("log_loss", "brier")
# Means over classes, in front of each class's F1 (`_means_and_f1`).
_MEANS: Final = 3
#: Bins of equal width from 0 to 1.
BINS: Final = 15
# Classes whose curves are kept; of more, the areas alone.
_DRAWN: Final = 25
# Points of a curve that is kept, and decimals: an eye sees no more.
_POINTS, _DECIMALS = 60, 4


class ScoredAnswers:
    """The answers to N images whose classes are known.

    Args:
        probabilities: ``float32[N, K]``, rows that sum to 1.
        labels: The right classes, ``int64[N]``; N is at least 1.
        groups: Images with the same number belong together, ``int64[N]``; ``None``: each alone.
    """

    def __init__(self, probabilities: Floats, labels: Ints, groups: Ints | None = None) -> None:
        self.probabilities, self.labels = probabilities, labels
        self.answers = probabilities.argmax(axis=1)
        #: The probability of each image's class.
        self.of_labels = probabilities[np.arange(len(labels)), labels]
        #: Numbered from 0; ``None`` where every image stands alone.
        self.groups = number_groups(groups)

    @cached_property
    def confusion(self) -> Ints:
        """Counts, ``int64[K, K]``, a row for each right class."""
        classes = self.probabilities.shape[1]
        cells = np.bincount(self.labels * classes + self.answers, minlength=classes**2)
        return cells.reshape(classes, classes)

    @property
    def brier_terms(self) -> Doubles:
        """Each image's Brier score, 0 (certain and right) to 2, ``float64[N]``.

        G. W. Brier, "Verification of forecasts expressed in terms of probability", 1950: the
        squared distance of the probabilities from the truth, over all classes.
        """
        exact = self.probabilities.astype(np.float64)
        of_labels = exact[np.arange(len(exact)), self.labels]
        return np.asarray(np.square(exact).sum(axis=1) - 2 * of_labels + 1, np.float64)

    @cached_property
    def reliability(self) -> list[dict[str, float]]:
        """The reliability diagram: how sure the answers were, and how often they were right.

        M. H. DeGroot and S. E. Fienberg, "The comparison and evaluation of forecasters", 1983.
        """
        confidence = self.probabilities.max(axis=1).astype(np.float64)
        right = self.answers == self.labels
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        return [
            {
                "low": index / BINS,
                "high": (index + 1) / BINS,
                "count": int((bins == index).sum()),
                "confidence": float(confidence[bins == index].mean()),
                "accuracy": float(right[bins == index].mean()),
            }
            for index in np.unique(bins).tolist()
        ]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error of this diagram, 0 to 1.

        C. Guo et al., "On calibration of modern neural networks", ICML 2017: the mean distance of
        confidence from accuracy, over the bins by their counts.
        """
        bins = self.reliability
        apart = sum(each["count"] * abs(each["confidence"] - each["accuracy"]) for each in bins)
        return round(apart / len(self.labels), 12)

    def share(self, which: Bools) -> Scored:
        """The share of images that something holds for."""
        return float(which.mean()), share(which, self.groups)

    def mean(self, values: Doubles) -> Scored:
        """The mean of values from 0 on."""
        return float(values.mean()), of_mean(values, self.groups)

    def mean_over_classes(self, index: int) -> Scored:
        """Balanced accuracy, macro F1 or weighted F1."""
        low, high = self.ends
        value = float(_means_and_f1(self.confusion)[index])
        return value, (float(low[index]), float(high[index]))

    @cached_property
    def ends(self) -> tuple[Doubles, Doubles]:
        """The ends of the 95% intervals of the means over classes, and of each class's F1."""
        classes, counts = len(self.confusion), self.confusion
        if self.groups is None:
            either = counts.sum(axis=0) + counts.sum(axis=1) - counts.diagonal()
            sizes = np.append(np.full(_MEANS, counts.sum(), np.float64), np.maximum(either, 1.0))
            return of_counts(counts, _means_and_f1, sizes)
        numbers = pooled(self.groups, resamples(self.confusion.size, FEWEST))
        count = int(numbers.max()) + 1
        if count == 1:
            return np.zeros(_MEANS + classes), np.ones(_MEANS + classes)
        # A class's F1 rests on the images of it, and on those to which it was the answer.
        wrong = self.answers != self.labels
        actual = numbers * classes + self.labels
        taken = numbers[wrong] * classes + self.answers[wrong]
        sizes = np.bincount(np.append(actual, taken), minlength=count * classes)
        every = np.full(_MEANS, effective_groups(np.bincount(numbers)))
        cells = self.labels * classes + self.answers
        return by_groups(
            _means_and_f1(self.confusion),
            without_each_group(cells, self.confusion.shape, numbers, _means_and_f1),
            np.append(every, effective_groups(sizes.reshape(count, classes), axis=0)),
        )


def _means_and_f1(confusion: Ints) -> Doubles:
    """Return balanced accuracy, macro and weighted F1, and each class's F1."""
    hits = confusion.diagonal(axis1=-2, axis2=-1)
    predicted, actual = confusion.sum(axis=-2), confusion.sum(axis=-1)
    recall = hits / np.maximum(actual, 1)
    f1 = 2 * hits / np.maximum(predicted + actual, 1)
    there = actual > 0
    means = [
        np.where(there, recall, 0).sum(axis=-1) / there.sum(axis=-1),
        np.where(there, f1, 0).sum(axis=-1) / there.sum(axis=-1),
        (f1 * actual).sum(axis=-1) / actual.sum(axis=-1),
    ]
    return np.concatenate([np.stack(means, axis=-1), f1], axis=-1)


def measure(
    probabilities: Floats, labels: Ints, classes: Sequence[str], groups: Ints | None = None
) -> PartFigures:
    """Measure the answers to one set of images."""
    scored = ScoredAnswers(probabilities, labels, groups)
    values = {metric.key: metric.compute(scored) for metric in METRICS}
    intervals = {key: value[1] for key, value in values.items() if value is not None and value[1]}
    groups_there = None if scored.groups is None else int(scored.groups.max()) + 1
    return PartFigures.model_validate(
        {
            "images": len(labels),
            "groups": groups_there,
            "few_groups": groups_there is not None and groups_there < FEW_GROUPS,
            **dict(zip(("low", "high"), intervals["accuracy"], strict=True)),
            **{key: None if value is None else value[0] for key, value in values.items()},
            "reliability": scored.reliability,
            "intervals": {name: list(ends) for name, ends in intervals.items()},
            "classes": _of_classes(scored, classes),
            "confusion": scored.confusion.tolist(),
            "confused": _confused(scored.confusion, classes),
            "curves": measure_curves(probabilities, labels, classes),
        }
    )


def widen(figures: PartFigures) -> PartFigures:
    """Widen the intervals of out-of-fold figures by `widened`."""
    data: Any = figures.model_dump(mode="json", exclude_unset=True)
    for name, ends in data["intervals"].items():
        ends[:] = widened(data[name], ends, most=math.inf if name in _LOSSES else 1.0)
    for entry in data["classes"]:
        for key in ("precision", "recall", "f1"):
            if entry[key] is not None:
                entry[f"{key}_interval"] = widened(entry[key], entry[f"{key}_interval"])
    earlier = (data.get("corrected") or {}).get("earlier")
    for part, key in ((data, "accuracy"), (data.get("refused"), "share"), (earlier, "accuracy")):
        if part:
            part["low"], part["high"] = widened(part[key], (part["low"], part["high"]))
    return PartFigures.model_validate(data)


def _of_classes(scored: ScoredAnswers, classes: Sequence[str]) -> list[ClassFigures]:
    confusion, right = scored.confusion, scored.answers == scored.labels
    hits, actual, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    low, high = (ends[_MEANS:] for ends in scored.ends)

    def among(which: Bools) -> list[float]:
        return list(share(right[which], None if scored.groups is None else scored.groups[which]))

    measured = []
    for i, name in enumerate(classes):
        # Nothing can be said of a class without images, least of all that it is never found.
        figures: dict[str, object] = dict.fromkeys(
            ("precision", "precision_interval", "recall", "recall_interval", "f1", "f1_interval")
        )
        if actual[i]:
            figures = {
                "precision": float(hits[i] / max(predicted[i], 1)),
                "precision_interval": among(scored.answers == i),
                "recall": float(hits[i] / actual[i]),
                "recall_interval": among(scored.labels == i),
                "f1": float(2 * hits[i] / (actual[i] + predicted[i])),
                "f1_interval": [float(low[i]), float(high[i])],
            }
        measured.append(
            ClassFigures(name=name, count=int(actual[i]), answers=int(predicted[i]), **figures)
        )
    return measured


def _confused(confusion: Ints, classes: Sequence[str]) -> list[ConfusedPair]:
    """Rank the pairs of right class and answer by how often they were mistaken."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[: min(20, mistakes.size)]
    return [
        ConfusedPair(
            actual=classes[actual],
            predicted=classes[predicted],
            count=int(mistakes[actual, predicted]),
            of=int(confusion[actual].sum()),
        )
        for actual, predicted in zip(*np.unravel_index(order, mistakes.shape), strict=True)
        if mistakes[actual, predicted]
    ]


def measure_curves(probabilities: Floats, labels: Ints, classes: Sequence[str]) -> Curves:
    """Measure ROC and precision-recall curves of each class."""
    by_class = [
        _curves_of(name, probabilities[:, number], labels == number, drawn=len(classes) <= _DRAWN)
        for number, name in enumerate(classes)
    ]
    aurocs = [entry.auroc for entry in by_class if entry.auroc is not None]
    precisions = [
        entry.average_precision for entry in by_class if entry.average_precision is not None
    ]
    return Curves(
        classes=by_class,
        macro_auroc=float(np.mean(aurocs)) if aurocs else None,
        macro_average_precision=float(np.mean(precisions)) if precisions else None,
    )


def _curves_of(name: str, scores: Floats, positive: Bools, *, drawn: bool) -> ClassCurves:
    """Measure the curves of a class, with their points where they are drawn."""
    if not positive.any() or positive.all():
        return ClassCurves(name=name, auroc=None, average_precision=None)
    areas = ClassCurves(
        name=name,
        auroc=float(sklearn.metrics.roc_auc_score(positive, scores)),
        average_precision=float(sklearn.metrics.average_precision_score(positive, scores)),
    )
    if not drawn:
        return areas
    false, true, _ = sklearn.metrics.roc_curve(positive, scores)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(positive, scores)
    precision_recall = _thinned(recall[::-1], precision[::-1])
    drawn_points = {"roc": _thinned(false, true), "precision_recall": precision_recall}
    return areas.model_copy(update=drawn_points)


def _thinned(across: Doubles, up: Doubles) -> list[list[float]]:
    """Thin a curve to visible points, evenly along its length."""
    steps = np.hypot(np.diff(across), np.diff(up))
    along = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _POINTS)))
    return [line[places].round(_DECIMALS).tolist() for line in (across, up)]
