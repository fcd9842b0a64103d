"""Which photographs to ask about next."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np

from opsin.core.arrays import Floats, Ints
from opsin.labelling.learner import FittedLearner, HeapLearner, likeness, margins

Why = Literal["typical", "doubtful", "random", "overlap"]

#: One question in so many is about a random photograph: the honest measure.
RANDOM_EVERY: Final = 5
# Photographs without a label, and with one, that are compared at most.
_COMPARED: Final = 2_500
# How much narrower the surroundings of a photograph are here than the learner's kernel.
_NARROWER: Final = 8


class Asked(NamedTuple):
    """A photograph to ask about, and why."""

    row: int
    why: Why


def next_rows(
    learner: HeapLearner,
    fitted: FittedLearner | None,
    *,
    labelled: Ints,
    open_rows: Ints,
    random_rows: Ints,
    count: int,
) -> list[Asked]:
    """The next questions.

    Those whose surroundings hold most doubt that no label and no question before is near to: what
    is learnt about one is learnt about many, and no two ask the same (facility location; K. Wei,
    R. Iyer and J. Bilmes, "Submodularity in data subset selection and active learning", ICML 2015).
    While nothing is known, all is in doubt: these are the most typical photographs (G. Hacohen, A.
    Dekel and D. Weinshall, "Active learning on a budget", ICML 2022). Always a share is random.
    """
    due = (len(labelled) + count) // RANDOM_EVERY - len(labelled) // RANDOM_EVERY
    drawn = random_rows[np.isin(random_rows, open_rows)][:due]
    random = np.random.default_rng(len(labelled))
    left = random.permutation(np.setdiff1d(open_rows, drawn))
    some = left[:_COMPARED]
    doubt = np.ones(len(some), np.float32) if fitted is None else 1 - margins(fitted.of(some))
    asked_before = np.concatenate([random.permutation(labelled)[:_COMPARED], drawn])
    points, gamma = learner.points, _NARROWER * learner.gamma
    covered = np.zeros(len(some), np.float32)
    if len(asked_before):
        covered = likeness(points[some], points[asked_before], gamma).max(axis=1)
    wanted = count - len(drawn)
    chosen = _covering(likeness(points[some], points[some], gamma), doubt, covered, wanted)
    rows = np.concatenate([some[chosen], left[_COMPARED:]])[:wanted]
    asked = [Asked(int(row), "typical" if fitted is None else "doubtful") for row in rows]
    # Spread evenly, so that whoever stops early has answered some of both.
    for at, row in enumerate(drawn):
        asked.insert((at + 1) * RANDOM_EVERY - 1, Asked(int(row), "random"))
    return asked


def _covering(near: Floats, doubt: Floats, covered: Floats, count: int) -> list[int]:
    """Places that cover most doubt, one after another, ``near`` being symmetric.

    What one would add only falls as others are chosen, so that only those are counted again whose
    last sum is the largest (M. Minoux, "Accelerated greedy algorithms", 1978).
    """
    most = np.maximum(near - covered, 0) @ doubt
    chosen = list[int]()
    while len(chosen) < min(count, len(near)):
        at = int(most.argmax())
        most[at] = np.maximum(near[at] - covered, 0) @ doubt
        if most.argmax() == at:
            chosen.append(at)
            covered = np.maximum(covered, near[at])
            most[at] = -1
    return chosen
