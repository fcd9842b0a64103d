"""Selection of answers to show: typical, worst, doubtful, and by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from opsin.core.arrays import Floats, Ints
from opsin.core.errors import RecipeError

# Images of all cells of a confusion matrix together, and of one.
_IN_ALL, _FEWEST, _MOST = 600, 2, 24
#: Cells whose images are shown; of more, those with the most mistakes.
_CELLS: Final = 120


def confident_mistakes(probabilities: Floats, labels: Ints, count: int = 24) -> Ints:
    """Return the rows of wrong answers, the most confident first."""
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    order = np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")
    return wrong[order][:count]


def least_confident_correct(probabilities: Floats, labels: Ints, count: int = 12) -> Ints:
    """Return the rows of right answers, the least certain first."""
    answers = probabilities.argmax(axis=1)
    hits = np.flatnonzero(answers == labels)
    return hits[np.argsort(probabilities[hits, answers[hits]], kind="stable")][:count]


@dataclass(frozen=True, eq=False)
class ConfusionCell:
    """A cell of the confusion matrix; its classes are indices."""

    actual: int
    predicted: int
    count: int
    rows: Ints


def cells_of(probabilities: Floats, labels: Ints) -> list[ConfusionCell]:
    """Return the cells of the confusion matrix with rows to show, the fullest mistakes first."""
    answers = probabilities.argmax(axis=1)
    pairs, inverse, counts = np.unique(
        np.stack([labels, answers], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    right = pairs[:, 0] == pairs[:, 1]
    order = np.lexsort((-counts, right))
    per_cell = int(np.clip(_IN_ALL // max(len(pairs), 1), _FEWEST, _MOST))
    cells = []
    for number, cell in enumerate(order):
        rows = np.flatnonzero(inverse.reshape(-1) == cell) if number < _CELLS else labels[:0]
        if right[cell]:
            rows = rows[typical_rows(len(rows), min(per_cell, 6))]
        else:
            sure = probabilities[rows, answers[rows]]
            rows = rows[np.argsort(-sure, kind="stable")][:per_cell]
        actual, predicted = (int(value) for value in pairs[cell])
        cells.append(ConfusionCell(actual, predicted, int(counts[cell]), rows))
    return cells


def check_seed(seed: int) -> None:
    """Refuse a seed that draws nothing, before anything is done."""
    if seed < 0:
        raise RecipeError(f"--seed must be 0 or more, not {seed}")


def drawn_rows(total: int, count: int = 15, *, seed: int = 0) -> Ints:
    """Return rows drawn at random, right and wrong alike."""
    chosen = np.random.default_rng(seed).permutation(total)[:count]
    return np.sort(chosen).astype(np.int64)


def typical_rows(total: int, count: int = 15) -> Ints:
    """Return evenly spaced rows."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(np.int64)
