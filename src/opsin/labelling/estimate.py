"""How good the labels' classifier is by now, and what more labels would bring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

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


class RunningFigure(NamedTuple):
    """The share of random photographs answered rightly by what their own labels did not teach."""

    right: int
    judged: int
    interval: Interval

    @property
    def value(self) -> float:
        """The share."""
        return self.right / self.judged


class Promise(NamedTuple):
    """What further labels would probably bring."""

    labels: int
    gain: float  # accuracy, in parts of 1
    interval: Interval  # of the gain, 90%


def judge(learner: HeapLearner, rows: Ints, labels: Ints, judges: Bools, classes: int) -> Bools:
    """Whether each judging photograph is answered rightly without its own label, ``bool[J]``.

    Args:
        learner: The heap's learner.
        rows: Photographs with a label, ``int64[L]``.
        labels: Their classes.
        judges: Which of them are of the random share.
        classes: Number of classes.
    """
    judging = np.flatnonzero(judges)
    right = np.zeros(len(judging), bool)
    for part, answers in answers_without_own(learner, rows, labels, judging, classes):
        right[part] = answers.argmax(axis=1) == labels[judging[part]]
    return right


def answers_without_own(
    learner: HeapLearner, rows: Ints, labels: Ints, asked: Ints, classes: int
) -> Iterator[tuple[Ints, Floats]]:
    """Places in ``asked``, and the answers to these that their own labels did not teach."""
    for number in range(_FOLDS):
        part = np.arange(number, len(asked), _FOLDS)
        taught = np.setdiff1d(np.arange(len(rows)), asked[part])
        if len(taught) and len(part):
            own = rows[asked[part]]
            fitted = learner.fit(rows[taught], labels[taught], classes, without=own)
            yield part, fitted.of(own)


def figure_of(right: Bools) -> RunningFigure | None:
    """The running figure; ``None`` where too few random photographs have a label."""
    if len(right) < FEWEST:
        return None
    count = int(right.sum())
    ends = widened(count / len(right), wilson(count, len(right)))
    return RunningFigure(count, len(right), ends)


def promise_of(figure: RunningFigure, labels: int) -> Promise | None:
    """The fewest further labels that bring two points; ``None`` if not even 500 do.

    Error falls as a power of the number of labels (J. Hestness et al., "Deep learning scaling is
    predictable, empirically", 2017). A few random photographs say little about how fast: that is
    assumed, the level is the figure's.
    """
    random = np.random.default_rng(0)
    wrong = figure.judged - figure.right
    error = random.beta(wrong + 0.5, figure.right + 0.5, _DRAWS)
    fall = np.maximum(random.normal(_FALL, _FALL_SPREAD, _DRAWS), 0)
    for more in _STEPS:
        gains = error * (1 - (labels / (labels + more)) ** fall)
        if gains.mean() >= _WORTH:
            low, high = np.quantile(gains, [0.05, 0.95])
            return Promise(more, float(gains.mean()), (float(low), float(high)))
    return None
