"""Photographs of a heap that are alike, to be named together."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from opsin.core.arrays import Floats, Ints
from opsin.core.errors import MissingExtraError
from opsin.labelling.learner import nearest

try:
    from sklearn.cluster import MiniBatchKMeans
except ImportError as error:
    raise MissingExtraError("labelling", "evaluate") from error

#: Groups that a class is offered in, to split it.
PARTS: Final = 4
# Nearest neighbours that tell how pure a group is, and photographs that are compared at most.
_NEIGHBOURS, _COMPARED = 8, 3_000


class Group(NamedTuple):
    """Photographs that are alike."""

    rows: Ints  # the most typical first, ``int64[M]``
    unity: float  # the share of their nearest neighbours that are in the group as well


def usual_number(images: int) -> int:
    """How many groups to begin with: about 20 photographs each, and not too many to name."""
    return int(np.clip(images // 20, 2, 120))


def groups_of(points: Floats, rows: Ints, number: int) -> list[Group]:
    """Cut the photographs at ``rows`` into groups of like ones, the purest first.

    k-means on their directions; a group whose members' neighbours are members, too, is purer than
    one that lies between others.
    """
    if not len(rows):
        return []
    some = np.random.default_rng(0).permutation(rows)[:_COMPARED]
    means = MiniBatchKMeans(min(number, len(some)), n_init=1, random_state=0)
    # Of float32, scikit-learn makes float64 again and again.
    of_some = means.fit_predict(points[some].astype(np.float64))
    centres = np.asarray(means.cluster_centers_, np.float32)
    nearness = points[rows] @ centres.T
    of = np.argmax(nearness - (centres**2).sum(axis=1) / 2, axis=1)
    near = min(_NEIGHBOURS, len(some) - 1)
    same = np.ones(len(some), np.float32)  # shares of nearest neighbours in the same group
    if near:
        same = (of_some[nearest(points[some], near)[0]] == of_some[:, None]).mean(axis=1)
    found = []
    for label in np.unique(of):
        inside = np.flatnonzero(of == label)
        members = rows[inside[np.argsort(-nearness[inside, label])]]
        compared = same[of_some == label]
        unity = float(compared.mean()) if len(compared) else 0.0
        found.append(Group(members, unity))
    return sorted(found, key=lambda group: (-round(group.unity, 2), -len(group.rows)))
