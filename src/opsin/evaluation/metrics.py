"""How good a classifier's answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError
from opsin.evaluation.calibration import brier_terms, calibration_error, reliability
from opsin.evaluation.curves import measure_curves
from opsin.evaluation.intervals import Interval, of_counts, of_mean, wilson

try:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

# Below this a probability counts as this, as in scikit-learn's log loss of float32.
_TINY = float(np.finfo(np.float32).eps)
_OF_A_CLASS: Final = (
    *("precision", "precision_interval", "recall", "recall_interval", "f1", "f1_interval"),
)


def measure(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, Any]:
    """Measure the answers to one set of pictures.

    Args:
        probabilities: ``float32[N, K]``, rows that sum to 1.
        labels: The right classes, ``int64[N]``; N is at least 1.
        classes: K names.

    Returns:
        ``images``: N. ``accuracy``, ``balanced_accuracy``, ``top5_accuracy`` (None up to five
        classes), ``macro_f1``, ``weighted_f1``: 0 to 1. ``low``, ``high``: 95% interval of the
        accuracy. ``log_loss``: mean cross entropy in nats. ``brier``: 0 to 2.
        ``calibration_error``: over ``reliability``, the bins of the diagram. ``intervals``: 95%
        intervals by name, Wilson's for shares of pictures, else the bootstrap's. ``classes``: for
        each, its ``name``, ``precision``, ``recall``, ``f1``, an interval of each by the name with
        ``_interval``, ``count`` (pictures) and ``answers`` (how often it was the answer); a class
        without pictures has ``None`` for all but these two, and is in no mean.
        ``confusion``: counts, a row for each right class. ``confused``: the pairs most often
        mistaken, the worst first. ``curves``: see `opsin.evaluation.curves.measure_curves`.
    """
    answers = probabilities.argmax(axis=1)
    right = int((answers == labels).sum())
    confusion = confusion_matrix(labels, answers, labels=list(range(len(classes))))
    figures, f1_ends = _of_confusion(confusion)
    low, high = wilson(right, len(labels))
    diagram = reliability(probabilities, labels)
    losses = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], _TINY).astype(float))
    briers = brier_terms(probabilities, labels)
    curves = measure_curves(probabilities, labels, classes)
    intervals: dict[str, Interval] = figures.pop("intervals") | {
        "accuracy": (low, high),
        "log_loss": of_mean(losses),
        "brier": of_mean(briers),
        **curves.pop("intervals"),
    }
    top5 = None
    if len(classes) > 5:
        own = probabilities[np.arange(len(labels)), labels][:, None]
        among = int(((probabilities > own).sum(axis=1) < 5).sum())
        top5 = among / len(labels)
        intervals["top5_accuracy"] = wilson(among, len(labels))
    return {
        "images": len(labels),
        "accuracy": right / len(labels),
        "low": low,
        "high": high,
        "top5_accuracy": top5,
        **figures,
        "log_loss": float(losses.mean()),
        "brier": float(briers.mean()),
        "calibration_error": calibration_error(diagram),
        "reliability": diagram,
        "intervals": {name: list(ends) for name, ends in intervals.items()},
        "classes": _of_classes(confusion, classes, f1_ends),
        "confusion": confusion.tolist(),
        "confused": _confused(confusion, classes),
        "curves": curves,
    }


def _of_confusion(
    confusion: NDArray[np.int64],
) -> tuple[dict[str, Any], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the figures that follow from the confusion matrix, and the ends of each class's F1."""
    names = ("balanced_accuracy", "macro_f1", "weighted_f1")
    low, high = of_counts(confusion, _means_and_f1)
    said: dict[str, Any] = dict(zip(names, map(float, _means_and_f1(confusion)), strict=False))
    ends = zip(names, low.tolist(), high.tolist(), strict=False)
    said["intervals"] = {name: (bottom, top) for name, bottom, top in ends}
    return said, (low[len(names) :], high[len(names) :])


def _means_and_f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return balanced accuracy, macro and weighted F1, and each class's F1.

    Means are over the classes that have pictures. ``int64[..., K, K]`` becomes
    ``float64[..., 3 + K]``.
    """
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


def _of_classes(
    confusion: NDArray[np.int64],
    classes: Sequence[str],
    f1_ends: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> list[dict[str, Any]]:
    everything = np.arange(len(classes))
    row, column = np.nonzero(confusion)
    precision, recall, f1, count = precision_recall_fscore_support(
        row, column, labels=everything, zero_division=0.0, sample_weight=confusion[row, column]
    )
    given = confusion.sum(axis=0)
    return [
        {
            "name": name,
            "precision": float(precision[i]),
            "precision_interval": list(wilson(int(confusion[i, i]), int(given[i]))),
            "recall": float(recall[i]),
            "recall_interval": list(wilson(int(confusion[i, i]), int(count[i]))),
            "f1": float(f1[i]),
            "f1_interval": [float(f1_ends[0][i]), float(f1_ends[1][i])],
            "count": int(count[i]),
            "answers": int(given[i]),
        }
        if count[i]
        # Nothing can be said of a class without pictures, least of all that it is never found.
        else {"name": name, **dict.fromkeys(_OF_A_CLASS), "count": 0, "answers": int(given[i])}
        for i, name in enumerate(classes)
    ]


def _confused(confusion: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Rank the pairs of right class and answer by how often they were mistaken."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[: min(20, mistakes.size)]
    pairs = [np.unravel_index(place, mistakes.shape) for place in order]
    return [
        {
            "actual": classes[actual],
            "predicted": classes[predicted],
            "count": int(mistakes[actual, predicted]),
            "of": int(confusion[actual].sum()),
        }
        for actual, predicted in pairs
        if mistakes[actual, predicted]
    ]
