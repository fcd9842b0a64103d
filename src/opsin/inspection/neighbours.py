"""Which pictures a network finds most alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: So that a picture which excites nothing at all is like none, not an error.
_NO_LENGTH: Final = 1e-12


def directions(
    embedding: NDArray[np.float32], scales: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return embeddings as directions: each unit over its deviation, each row of length 1.

    The product of two rows is the cosine by which the file itself tells how familiar a picture is
    (A. Techapanurak et al. put it to use, ACCV 2020): units that vary much have no more say than
    others, and neither has the strength of the whole.

    Args:
        embedding: What the last layer sees, ``float32[N, D]``.
        scales: What each unit is multiplied by, ``float32[D]``, the file's
            ``familiarity.scales``; ``None``: a file of an earlier version, whose units stay as
            they are.

    Example:
        >>> found = directions(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32), None)
        >>> found.round(3).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    scaled = embedding if scales is None else embedding * scales
    scaled = np.nan_to_num(scaled.astype(np.float32), posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    found: NDArray[np.float32] = scaled / np.maximum(lengths, _NO_LENGTH)
    return found


def most_alike(
    batches: Iterable[NDArray[np.floating]], wanted: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows whose directions are nearest to one, the nearest first.

    Only one batch and the best so far are held.

    Args:
        batches: Directions, ``[M, D]`` each, in the order of the rows.
        wanted: The direction that is compared, ``float32[D]``.
        count: How many rows at most.

    Returns:
        Places among all rows given, ``int64[count]``, and their cosines, ``float32[count]``; of
        equal ones the earlier comes first.

    Example:
        >>> rows, cosines = most_alike([np.eye(3), -np.eye(3)], np.eye(3)[1], 2)
        >>> rows.tolist(), cosines.tolist()
        ([1, 0], [1.0, 0.0])
    """
    rows, cosines = np.zeros(0, np.int64), np.zeros(0, np.float32)
    start = 0
    for batch in batches:
        rows = np.concatenate([rows, np.arange(start, start + len(batch))])
        cosines = np.concatenate([cosines, batch.astype(np.float32) @ wanted])
        best = np.lexsort((rows, -cosines))[:count]
        rows, cosines = rows[best], cosines[best]
        start += len(batch)
    return rows, cosines.astype(np.float32)
