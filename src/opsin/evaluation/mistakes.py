"""Which answers to show: the typical and the worst."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confident_mistakes(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], count: int = 24
) -> NDArray[np.int64]:
    """Return the rows of wrong answers, the most confident first.

    Args:
        probabilities: ``float32[N, K]``
        labels: The right classes, ``int64[N]``.
        count: How many at most.
    """
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    order = np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")
    return wrong[order][:count]


def typical_rows(total: int, count: int = 15) -> NDArray[np.int64]:
    """Return rows that show the answers as they are: evenly spread, right and wrong alike.

    Neither by chance nor by confidence: a choice that flatters would be a false picture.

    Args:
        total: Number of answers.
        count: How many rows at most.
    """
    return np.linspace(0, total - 1, min(count, total)).round().astype(np.int64)
