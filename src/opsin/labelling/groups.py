"""Photographs of a heap that are alike, to be named together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from opsin.core.arrays import Floats, Ints
from opsin.core.errors import MissingExtraError

try:
    from sklearn.cluster import MiniBatchKMeans
except ImportError as error:
    raise MissingExtraError("labelling", "evaluate") from error

# Nearest neighbours that tell how pure a group is, and members whose neighbours are looked for.
_NEIGHBOURS, _ASKED = 8, 64


class Group(NamedTuple):
    """Photographs that are alike."""

    rows: Ints  # the most typical first, ``int64[M]``
    unity: float  # the share of their nearest neighbours that are in the group as well


def usual_number(images: int) -> int:
    """How many groups to begin with: about 20 photographs each, and not too many to name."""
    return int(np.clip(images // 20, 2, 120))


def groups_of(points: Floats, rows: Ints, number: int) -> list[Group]:
    """Cut photographs into groups of like ones, the purest first.

    k-means on their directions; a group whose members' neighbours are members, too, is purer than
    one that lies between others.

    Args:
        points: All photographs as directions: ``float32[N, D]``, rows of length 1.
        rows: Those to group, ``int64[M]``.
        number: Number of groups at most.
    """
    if not len(rows):
        return []
    shown = points[rows]
    means = MiniBatchKMeans(min(number, len(rows)), n_init=3, random_state=0, batch_size=4096)
    of = means.fit_predict(shown)
    found = []
    for label in np.unique(of):
        members = np.flatnonzero(of == label)
        unity = _share_of_same(shown, of, members[:: 1 + len(members) // _ASKED])
        nearness = shown[members] @ means.cluster_centers_[label].astype(np.float32)
        found.append(Group(rows[members[np.argsort(-nearness)]], unity))
    return sorted(found, key=lambda group: (-round(group.unity, 2), -len(group.rows)))


def _share_of_same(points: Floats, of: Ints, members: Ints) -> float:
    """The share of members' nearest neighbours that are in their group."""
    near = min(_NEIGHBOURS, len(points) - 1)
    if not near:
        return 1.0
    likeness = points[members] @ points.T
    likeness[np.arange(len(members)), members] = -np.inf
    nearest = np.argpartition(-likeness, near - 1, axis=1)[:, :near]
    return float((of[nearest] == of[members][:, None]).mean())
