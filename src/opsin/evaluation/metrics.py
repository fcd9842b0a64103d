"""How good a classifier's answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.errors import MissingExtraError

try:
    from scipy.stats import binomtest
    from sklearn.metrics import (
        confusion_matrix,
        log_loss,
        precision_recall_fscore_support,
    )
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error


def interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of a proportion, by Wilson's score.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA
    1927. Unlike the textbook's ±, it stays inside 0 to 1 and holds for small counts.

    Args:
        right: Number of successes.
        count: Number of trials, at least 1.

    Example:
        >>> [round(end, 4) for end in interval(9214, 10000)]
        [0.916, 0.9265]
    """
    ends = binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(ends.low), float(ends.high)


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
        classes), ``macro_f1``: 0 to 1. ``low``, ``high``: 95% interval of the accuracy.
        ``log_loss``: mean cross entropy in nats. ``classes``: for each, its ``name``,
        ``precision``, ``recall``, ``f1`` and ``count``. ``confusion``: counts, a row for each
        right class. ``confused``: the pairs most often mistaken, the worst first.
    """
    answers = probabilities.argmax(axis=1)
    everything = list(range(len(classes)))
    right = int((answers == labels).sum())
    low, high = interval(right, len(labels))
    precision, recall, f1, count = precision_recall_fscore_support(
        labels, answers, labels=everything, zero_division=0.0
    )
    present = np.unique(labels)
    # scikit-learn insists on rows that sum to 1 in double precision.
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    confusion = confusion_matrix(labels, answers, labels=everything)
    ranks = (probabilities > probabilities[np.arange(len(labels)), labels][:, None]).sum(axis=1)
    return {
        "images": len(labels),
        "accuracy": right / len(labels),
        "low": low,
        "high": high,
        "balanced_accuracy": float(np.mean(recall[present])),
        "top5_accuracy": float(np.mean(ranks < 5)) if len(classes) > 5 else None,
        "macro_f1": float(np.mean(f1[present])),
        "log_loss": float(log_loss(labels, exact, labels=everything)),
        "classes": [
            {
                "name": name,
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "count": int(count[i]),
            }
            for i, name in enumerate(classes)
        ],
        "confusion": confusion.tolist(),
        "confused": _confused(confusion, classes),
    }


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
