"""How good the labels' classifier is by now, and what more labels would bring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from pydantic import BaseModel

from opsin.core.arrays import Bools, Floats, Ints
from opsin.evaluation.intervals import Interval, widened, wilson
from opsin.labelling.learner import HeapLearner

#: Random photographs with a label below which no figure is stated.
FEWEST: Final = 20
# Parts of the random photographs, each judged by what the others' labels teach.
_FOLDS: Final = 5
# The error is assumed to fall with the number of labels n as n to the power of minus this, mean and
# spread: how often promises hold is printed by `python -m benchmarks.labelling`.
_FALL, _FALL_SPREAD = 0.55, 0.25
_DRAWS: Final = 4_000
# Numbers of further labels that a promise may name, and the gain that is worth it.
_STEPS: Final = (10, 20, 40, 60, 80, 100, 150, 200, 300, 500)
_WORTH: Final = 0.02


class Estimate(BaseModel, frozen=True):
    """How good what the labels teach is by now, and what more of them would bring."""

    # Random photographs with a label, and the share of them that is answered rightly by what their
    # own labels did not teach; ``None`` with too few.
    judged: int = 0
    accuracy: float | None = None
    interval: Interval | None = None
    # Further labels, and the gain they would probably bring, with its 90% interval.
    more: int | None = None
    gain: float | None = None
    gain_interval: Interval | None = None


def judge(
    learner: HeapLearner, rows: Ints, labels: Ints, judges: Bools, classes: int
) -> tuple[Bools, bool]:
    """Whether each judging photograph is answered rightly without its own label, ``bool[J]``.

    And whether labels should spread over neighbours: where more of these photographs are right by
    it. For each, the others decide that.
    """
    judging = np.flatnonzero(judges)
    choices = (False, True) if len(judging) >= FEWEST and learner.can_spread(classes) else (False,)
    right = np.zeros((len(choices), len(judging)), bool)
    for spread in choices:
        for part, answers in answers_without_own(
            learner, rows, labels, judging, classes, spread=spread
        ):
            right[int(spread), part] = answers.argmax(axis=1) == labels[judging[part]]
    if len(choices) == 1:
        return right[0], False
    gains = right[1].astype(np.int64) - right[0]
    fold = np.arange(len(judging)) % _FOLDS
    of_others = gains.sum() - np.bincount(fold, gains, _FOLDS)[fold]
    return np.where(of_others > 0, right[1], right[0]), bool(gains.sum() > 0)


def answers_without_own(
    learner: HeapLearner, rows: Ints, labels: Ints, asked: Ints, classes: int, *, spread: bool
) -> Iterator[tuple[Ints, Floats]]:
    """Places in ``asked``, and the answers to these that their own labels did not teach."""
    for number in range(_FOLDS):
        part = np.arange(number, len(asked), _FOLDS)
        taught = np.setdiff1d(np.arange(len(rows)), asked[part])
        if len(taught) and len(part):
            own = rows[asked[part]]
            fitted = learner.fit(rows[taught], labels[taught], classes, without=own, spread=spread)
            yield part, fitted.of(own)


def estimate_of(right: Bools, labels: int) -> Estimate:
    """The share of random photographs that are right, and how many more labels bring two points.

    Error falls as a power of the number of labels (J. Hestness et al., "Deep learning scaling is
    predictable, empirically", 2017). A few random photographs say little about how fast: that is
    assumed, the level is theirs.
    """
    if len(right) < FEWEST:
        return Estimate(judged=len(right))
    count = int(right.sum())
    share, ends = count / len(right), wilson(count, len(right))
    now = Estimate(judged=len(right), accuracy=share, interval=widened(share, ends))
    random = np.random.default_rng(0)
    error = random.beta(len(right) - count + 0.5, count + 0.5, _DRAWS)
    fall = np.maximum(random.normal(_FALL, _FALL_SPREAD, _DRAWS), 0)
    for more in _STEPS:
        gains = error * (1 - (labels / (labels + more)) ** fall)
        if gains.mean() >= _WORTH:
            low, high = np.quantile(gains, [0.05, 0.95]).tolist()
            promise = {"more": more, "gain": float(gains.mean()), "gain_interval": (low, high)}
            return now.model_copy(update=promise)
    return now
