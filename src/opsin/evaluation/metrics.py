"""Metrics of a classifier's answers, with intervals, curves and calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
    Interval,
    by_groups,
    effective_groups,
    in_parts,
    middle_of,
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
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
    from sklearn.metrics import roc_curve as roc_points
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

# Figures that may be larger than 1.
_LOSSES: Final = ("log_loss", "brier")
# Below this a probability counts as this, as in scikit-learn's log loss of float32.
_TINY = float(np.finfo(np.float32).eps)
# Means over classes, in front of each class's F1 (`_means_and_f1`).
_MEANS: Final = 3
#: Bins of equal width from 0 to 1.
BINS: Final = 15
# Classes whose curves are kept; of more, the areas alone.
_DRAWN: Final = 25
# Points of a curve that is kept, and decimals: an eye sees no more.
_POINTS, _DECIMALS = 60, 4
_SEED: Final = 0
_Ends = dict[str, Interval]


class ScoredAnswers:
    """The answers to N images whose classes are known.

    Args:
        probabilities: ``float32[N, K]``, rows that sum to 1.
        labels: The right classes, ``int64[N]``; N is at least 1.
        groups: Images with the same number belong together, ``int64[N]``; ``None``: each alone.
    """

    def __init__(self, probabilities: Floats, labels: Ints, groups: Ints | None = None) -> None:
        self.probabilities = probabilities
        self.labels = labels
        self.answers = probabilities.argmax(axis=1)
        #: Numbered from 0; ``None`` where every image stands alone.
        self.groups = number_groups(groups)

    @cached_property
    def confusion(self) -> Ints:
        """Counts, ``int64[K, K]``, a row for each right class."""
        classes = self.probabilities.shape[1]
        cells = np.bincount(self.labels * classes + self.answers, minlength=classes**2)
        return cells.reshape(classes, classes)

    @property
    def accuracy(self) -> Scored:
        """Share of right answers."""
        return self._share(self.answers == self.labels)

    @property
    def top5_accuracy(self) -> Scored | None:
        """Share of images whose class is among the five likeliest; ``None`` up to five classes."""
        if self.probabilities.shape[1] <= 5:
            return None
        return self._share((self.probabilities >= self._own[:, None]).sum(axis=1) <= 5)

    @property
    def balanced_accuracy(self) -> Scored:
        """Mean recall of the classes that have images."""
        return self._mean_over_classes(0)

    @property
    def macro_f1(self) -> Scored:
        """Mean F1 of the classes that have images."""
        return self._mean_over_classes(1)

    @property
    def weighted_f1(self) -> Scored:
        """Mean F1, each class weighted by its images."""
        return self._mean_over_classes(2)

    @property
    def log_loss(self) -> Scored:
        """Mean cross entropy in nats."""
        return self._mean(-np.log(np.maximum(self._own, _TINY).astype(float)))

    @property
    def brier(self) -> Scored:
        """Mean Brier score."""
        return self._mean(brier_terms(self.probabilities, self.labels))

    @property
    def calibration_error(self) -> Scored:
        """Expected calibration error over the bins of `reliability`."""
        return calibration_error(self.reliability), None

    @cached_property
    def reliability(self) -> list[dict[str, float]]:
        """The bins of the reliability diagram."""
        return reliability(self.probabilities, self.labels)

    @cached_property
    def ends(self) -> tuple[Doubles, Doubles]:
        """The ends of the 95% intervals of the means over classes, and of each class's F1."""
        if self.groups is None:
            return of_counts(self.confusion, _means_and_f1)
        classes = len(self.confusion)
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

    @property
    def _own(self) -> Floats:
        """The probability of each image's class."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]

    def _share(self, which: Bools) -> Scored:
        return float(which.mean()), share(which, self.groups)

    def _mean_over_classes(self, index: int) -> Scored:
        low, high = self.ends
        value = float(_means_and_f1(self.confusion)[index])
        return value, (float(low[index]), float(high[index]))

    def _mean(self, values: Doubles) -> Scored:
        return float(values.mean()), of_mean(values, self.groups)


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
    curves, ends_of_areas = measure_curves(probabilities, labels, classes, scored.groups)
    known = {key: value[1] for key, value in values.items() if value is not None and value[1]}
    intervals = known | ends_of_areas
    low, high = intervals["accuracy"]
    groups_there = None if scored.groups is None else int(scored.groups.max()) + 1
    return PartFigures.model_validate({
        "images": len(labels),
        "groups": groups_there,
        "few_groups": groups_there is not None and groups_there < FEW_GROUPS,
        "low": low,
        "high": high,
        **{key: None if value is None else value[0] for key, value in values.items()},
        "reliability": scored.reliability,
        "intervals": {name: list(ends) for name, ends in intervals.items()},
        "classes": _of_classes(scored, classes),
        "confusion": scored.confusion.tolist(),
        "confused": _confused(scored.confusion, classes),
        "curves": curves,
    })  # fmt: skip


def widen(figures: PartFigures) -> PartFigures:
    """Widen the intervals of out-of-fold figures by `widened`."""
    data: Any = figures.to_json()
    values = data["curves"] | data
    for name, ends in data["intervals"].items():
        ends[:] = widened(values[name], ends, most=math.inf if name in _LOSSES else 1.0)
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


def measure_curves(
    probabilities: Floats, labels: Ints, classes: Sequence[str], groups: Ints | None = None
) -> tuple[Curves, _Ends]:
    """Measure ROC and precision-recall curves of each class."""
    by_class = [
        _curves_of(name, probabilities[:, number], labels == number, drawn=len(classes) <= _DRAWN)
        for number, name in enumerate(classes)
    ]
    aurocs = [entry.auroc for entry in by_class if entry.auroc is not None]
    precisions = [
        entry.average_precision for entry in by_class if entry.average_precision is not None
    ]
    curves = Curves(
        classes=by_class,
        macro_auroc=float(np.mean(aurocs)) if aurocs else None,
        macro_average_precision=float(np.mean(precisions)) if precisions else None,
    )
    return curves, _area_intervals(probabilities, labels, groups) if aurocs else {}


def _curves_of(name: str, scores: Floats, positive: Bools, *, drawn: bool) -> ClassCurves:
    """Measure the curves of a class, with their points where they are drawn."""
    if not positive.any() or positive.all():
        return ClassCurves(name=name, auroc=None, average_precision=None)
    areas = ClassCurves(
        name=name,
        auroc=float(roc_auc_score(positive, scores)),
        average_precision=float(average_precision_score(positive, scores)),
    )
    if not drawn:
        return areas
    false, true, _ = roc_points(positive, scores)
    precision, recall, _ = precision_recall_curve(positive, scores)
    return areas.model_copy(
        update={
            "roc": _thinned(false, true),
            "precision_recall": _thinned(recall[::-1], precision[::-1]),
        }
    )


def _thinned(across: Doubles, up: Doubles) -> list[list[float]]:
    """Thin a curve to visible points, evenly along its length."""
    steps = np.hypot(np.diff(across), np.diff(up))
    along = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _POINTS)))
    return [line[places].round(_DECIMALS).tolist() for line in (across, up)]


def _area_intervals(probabilities: Floats, labels: Ints, groups: Ints | None) -> _Ends:
    """Resample the mean of each area over the classes."""
    number = resamples(4 * probabilities.size)  # sums, sorts and gathers
    if not number:
        return {}
    numbers = None if groups is None else pooled(groups, number)
    if numbers is not None:
        number = int(numbers.max()) + 2  # each group is left out in turn, at last none
    chance = np.random.default_rng(_SEED)
    count, classes = probabilities.shape
    sums = np.zeros((2, number))
    there = np.zeros(number)
    start, even = 0, np.full(count, 1 / count)
    for some in in_parts(number, count):
        part = slice(start, start := start + some)
        weights = (
            chance.multinomial(count, even, size=some)
            if numbers is None
            else np.arange(part.start, start)[:, None] != numbers
        ).astype(np.int32)
        for name in range(classes):
            positive = labels == name
            if positive.any() and not positive.all():
                areas = _areas(weights, probabilities[:, name], positive)
                # A resample may lack a class.
                sums[:, part] += np.nan_to_num(areas)
                there[part] += np.isfinite(areas[0])
    means = sums[:, there > 0] / there[there > 0]
    names = ("macro_auroc", "macro_average_precision")
    if numbers is None:
        return dict(zip(names, map(middle_of, means), strict=True))
    left_out = means[:, :-1].T
    if len(left_out) < 2:
        return {}
    low, high = by_groups(means[:, -1], left_out, effective_groups(np.bincount(numbers)))
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)}


def _areas(weights: NDArray[np.integer[Any]], scores: Floats, positive: Bools) -> Doubles:
    """Return area under ROC and average precision of weighted images, ``float64[2, R]``."""
    order = np.argsort(-scores, kind="stable")
    ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = np.cumsum(weights[:, order] * positive[order], axis=1)[:, ties].astype(np.float64)
    both = np.cumsum(weights[:, order], axis=1)[:, ties]
    false = both - true
    with np.errstate(invalid="ignore"):
        recall = np.pad(true / true[:, -1:], ((0, 0), (1, 0)))
        fall_out = np.pad(false / false[:, -1:], ((0, 0), (1, 0)))
    precision = true / np.maximum(both, 1)
    roc = np.trapezoid(recall, fall_out, axis=1)
    average = np.sum(np.diff(recall, axis=1) * precision, axis=1)
    return np.where(np.isfinite(roc), np.stack([roc, average]), np.nan)


def reliability(probabilities: NDArray[np.floating[Any]], labels: Ints) -> list[dict[str, float]]:
    """Return a reliability diagram: how sure the answers were, and how often they were right.

    M. H. DeGroot and S. E. Fienberg, "The comparison and evaluation of forecasters", 1983.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
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


def calibration_error(diagram: list[dict[str, float]]) -> float:
    """Return the expected calibration error of a reliability diagram, 0 to 1.

    C. Guo et al., "On calibration of modern neural networks", ICML 2017: the mean distance of
    confidence from accuracy, over the bins by their counts.
    """
    total = sum(entry["count"] for entry in diagram)
    apart = sum(e["count"] * abs(e["confidence"] - e["accuracy"]) for e in diagram)
    return round(apart / total, 12)


def brier_terms(probabilities: NDArray[np.floating[Any]], labels: Ints) -> Doubles:
    """Return each image's Brier score, 0 (certain and right) to 2, ``float64[N]``.

    G. W. Brier, "Verification of forecasts expressed in terms of probability", 1950: the squared
    distance of the probabilities from the truth, over all classes.
    """
    exact = probabilities.astype(np.float64)
    of_label = exact[np.arange(len(labels)), labels]
    return np.asarray(np.square(exact).sum(axis=1) - 2 * of_label + 1, np.float64)
