"""How good a classifier's answers are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_report import FEW_GROUPS, ClassFigures, ConfusedPair, PartFigures
from opsin.core.errors import MissingExtraError
from opsin.evaluation.calibration import brier_terms, calibration_error, reliability
from opsin.evaluation.curves import measure_curves
from opsin.evaluation.intervals import (
    by_groups,
    effective_groups,
    most_groups,
    number_groups,
    of_counts,
    of_mean,
    pooled,
    share,
    widened,
    without_each_group,
)
from opsin.evaluation.metric_table import METRICS, Scored

try:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

# Figures that may be larger than 1.
_LOSSES: Final = ("log_loss", "brier")

# Below this a probability counts as this, as in scikit-learn's log loss of float32.
_TINY = float(np.finfo(np.float32).eps)
_MEANS = 3


class ScoredAnswers:
    """The answers to N images whose classes are known.

    Args:
        probabilities: ``float32[N, K]``, rows that sum to 1.
        labels: The right classes, ``int64[N]``; N is at least 1.
        groups: Images with the same number belong together, ``int64[N]``; ``None``: each alone.
    """

    def __init__(
        self,
        probabilities: NDArray[np.float32],
        labels: NDArray[np.int64],
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        self.probabilities = probabilities
        self.labels = labels
        self.answers = probabilities.argmax(axis=1)
        #: Numbered from 0; ``None`` where every image stands alone.
        self.groups = number_groups(groups)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, ``int64[K, K]``, a row for each right class."""
        every = list(range(self.probabilities.shape[1]))
        found: NDArray[np.int64] = confusion_matrix(self.labels, self.answers, labels=every)
        return found

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
        losses = -np.log(np.maximum(self._own, _TINY).astype(float))
        return float(losses.mean()), of_mean(losses, self.groups)

    @property
    def brier(self) -> Scored:
        """Mean Brier score."""
        terms = brier_terms(self.probabilities, self.labels)
        return float(terms.mean()), of_mean(terms, self.groups)

    @property
    def calibration_error(self) -> Scored:
        """Expected calibration error over the bins of `reliability`."""
        return calibration_error(self.reliability), None

    @cached_property
    def reliability(self) -> list[dict[str, float]]:
        """The bins of the reliability diagram."""
        return reliability(self.probabilities, self.labels)

    @property
    def f1_ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The ends of the 95% interval of each class's F1, ``float64[K]`` each."""
        low, high = self._ends
        return low[_MEANS:], high[_MEANS:]

    @property
    def _own(self) -> NDArray[np.float32]:
        """The probability of each image's class."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]

    @cached_property
    def _ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.groups is None:
            return of_counts(self.confusion, _means_and_f1)
        classes = len(self.confusion)
        numbers = pooled(self.groups, most_groups(self.confusion.size))
        count = int(numbers.max()) + 1
        if count == 1:
            return np.zeros(_MEANS + classes), np.ones(_MEANS + classes)
        # A class's F1 rests on the images of it, and on those to which it was the answer.
        wrong = self.answers != self.labels
        own = numbers * classes + self.labels
        taken = numbers[wrong] * classes + self.answers[wrong]
        sizes = np.bincount(np.append(own, taken), minlength=count * classes)
        every = np.full(_MEANS, effective_groups(np.bincount(numbers)))
        return by_groups(
            _means_and_f1(self.confusion),
            without_each_group(
                self.labels * classes + self.answers, self.confusion.shape, numbers, _means_and_f1
            ),
            np.append(every, effective_groups(sizes.reshape(count, classes), axis=0)),
        )

    def _share(self, which: NDArray[np.bool_]) -> Scored:
        return float(which.mean()), share(which, self.groups)

    def _mean_over_classes(self, place: int) -> Scored:
        low, high = self._ends
        value = float(_means_and_f1(self.confusion)[place])
        return value, (float(low[place]), float(high[place]))


def _means_and_f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return balanced accuracy, macro and weighted F1, and each class's F1."""
    found = confusion.diagonal(axis1=-2, axis2=-1)
    given, own = confusion.sum(axis=-2), confusion.sum(axis=-1)
    recall = found / np.maximum(own, 1)
    f1 = 2 * found / np.maximum(given + own, 1)
    there = own > 0
    means = [
        np.where(there, recall, 0).sum(axis=-1) / there.sum(axis=-1),
        np.where(there, f1, 0).sum(axis=-1) / there.sum(axis=-1),
        (f1 * own).sum(axis=-1) / own.sum(axis=-1),
    ]
    return np.concatenate([np.stack(means, axis=-1), f1], axis=-1)


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
    found = []
    for i, name in enumerate(classes):
        # Nothing can be said of a class without images, least of all that it is never found.
        figures: dict[str, Any] = dict.fromkeys(
            ("precision", "precision_interval", "recall", "recall_interval", "f1", "f1_interval")
        )
        if count[i]:
            figures = {
                "precision": float(precision[i]),
                "precision_interval": among(scored.answers == i),
                "recall": float(recall[i]),
                "recall_interval": among(scored.labels == i),
                "f1": float(f1[i]),
                "f1_interval": [float(f1_ends[0][i]), float(f1_ends[1][i])],
            }
        found.append(ClassFigures(name=name, count=int(count[i]), answers=int(given[i]), **figures))
    return found


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
