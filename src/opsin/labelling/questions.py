"""Which photographs to ask about next."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np

from opsin.core.arrays import Floats, Ints
from opsin.core.errors import MissingExtraError
from opsin.labelling.learner import HeapLearner, margins

try:
    from sklearn.cluster import MiniBatchKMeans
except ImportError as error:
    raise MissingExtraError("labelling", "evaluate") from error

Why = Literal["typical", "doubtful", "random"]

#: One question in so many is about a random photograph: the honest measure.
RANDOM_EVERY: Final = 5
# Labels a class below which typical photographs are asked about.
_FEW: Final = 2
# Clusters, neighbours that make a photograph typical, and photographs looked at, at most.
_CLUSTERS, _NEIGHBOURS, _LOOKED_AT = 400, 20, 5_000


class Question(NamedTuple):
    """A photograph to ask about, and why."""

    row: int
    why: Why


def next_rows(
    learner: HeapLearner, answers: Floats | None, *, labelled: Ints, open_rows: Ints,
    random_rows: Ints, count: int, classes: int,
) -> list[Question]:  # fmt: skip
    """The next questions.

    While labels are few, the most typical photographs of the largest groups without a label
    (G. Hacohen, A. Dekel and D. Weinshall, "Active learning on a budget", ICML 2022); then those
    between two classes (T. Scheffer et al., "Active hidden Markov models", 2001); always a share at
    random.

    Args:
        learner: The heap's learner.
        answers: Its answers to ``open_rows``, ``float32[M, K]``; ``None`` without labels.
        labelled: Photographs with a label, ``int64[L]``.
        open_rows: Those that may be asked about, ``int64[M]``.
        random_rows: All photographs in their random order, ``int64[N]``.
        count: Number of questions.
        classes: Number of classes so far.
    """
    due = (len(labelled) + count) // RANDOM_EVERY - len(labelled) // RANDOM_EVERY
    is_open = np.zeros(len(learner.points), bool)
    is_open[open_rows] = True
    drawn = random_rows[is_open[random_rows]][:due]
    is_open[drawn] = False
    wanted = min(count - len(drawn), int(is_open.sum()))
    kind: Why = "doubtful"
    if answers is None or len(labelled) < _FEW * max(2, classes):
        chosen, kind = (
            _typical(learner.points, labelled, np.flatnonzero(is_open), wanted),
            "typical",
        )
    else:
        margin = np.where(is_open[open_rows], margins(answers), np.inf)
        chosen = open_rows[np.argsort(margin, kind="stable")[:wanted]]
    asked = [Question(int(row), kind) for row in chosen]
    # Spread evenly, so that whoever stops early has answered some of both.
    for at, row in enumerate(drawn):
        asked.insert((at + 1) * RANDOM_EVERY - 1, Question(int(row), "random"))
    return asked


def _typical(points: Floats, labelled: Ints, open_rows: Ints, count: int) -> Ints:
    """The densest photograph of each of the largest clusters without a label."""
    if not count:
        return np.zeros(0, np.int64)
    random = np.random.default_rng(len(labelled))
    some = np.sort(random.permutation(open_rows)[:_LOOKED_AT])
    every = np.concatenate([some, labelled])
    clusters = min(len(labelled) + count, _CLUSTERS, len(every))
    means = MiniBatchKMeans(clusters, n_init=1, random_state=0, batch_size=2048)
    of = means.fit_predict(points[every])
    covered = np.bincount(of[len(some) :], minlength=clusters)
    order = np.lexsort((-np.bincount(of, minlength=clusters), covered))
    chosen = list[int]()
    for number in order:
        rows = some[of[: len(some)] == number]
        if len(rows) and len(chosen) < count:
            near = points[rows] @ points[rows].T
            density = np.sort(near, axis=1)[:, -_NEIGHBOURS - 1 :].mean(axis=1)
            chosen.append(int(rows[density.argmax()]))
    rest = np.setdiff1d(some, chosen)[: count - len(chosen)]
    return np.concatenate([np.array(chosen, np.int64), rest])
