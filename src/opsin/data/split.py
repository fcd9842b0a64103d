"""Stratified train, validation and test splits that content decides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.errors import SourceError

#: Codes of the ``given`` array: what a source says of each of its pictures.
UNASSIGNED, TRAIN, VAL, TEST = 0, 1, 2, 3


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, ascending, ``int64``; the parts never overlap."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]

    def rows(self, part: str) -> NDArray[np.int64]:
        """Return the rows of ``train``, ``val`` or ``test``."""
        rows: NDArray[np.int64] = getattr(self, part)
        return rows


def make_split(
    labels: NDArray[np.int64],
    digests: NDArray[np.uint8],
    given: NDArray[np.uint8],
    classes: Sequence[str],
    *,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Split:
    """Cut validation, and test where none is given, out of the training pictures.

    Within each class the pictures are put in the order of a keyed hash of their pixels, so the
    same content gives the same split whatever the order or the names of the files, and equal
    pictures stand side by side, where the cut is moved so that they stay together.

    Args:
        labels: Class index of each picture, ``int64[N]``.
        digests: Hash of each picture's pixels, ``uint8[N, 32]``.
        given: What the source says: ``UNASSIGNED``, ``TRAIN``, ``VAL`` or ``TEST``, ``uint8[N]``.
        classes: Class names, for errors.
        val_fraction: Share of the training pictures for validation, where none is given.
        test_fraction: Share for the test, where none is given.
        seed: Another seed gives another split.

    Raises:
        SourceError: A class has too few pictures to be both learnt and checked.
    """
    key = hashlib.sha256(f"opsin split {seed}".encode()).digest()
    order = np.array([hashlib.sha256(key + d.tobytes()).digest() for d in digests], dtype="S32")
    fixed_val, fixed_test = bool(np.any(given == VAL)), bool(np.any(given == TEST))
    # A source that names a training part but no test has said which pictures are for training.
    cut_test = not fixed_test and not np.any(given == TRAIN) and not fixed_val
    parts = given.copy()
    parts[given == UNASSIGNED] = TRAIN
    for label, name in enumerate(classes):
        rows = np.flatnonzero((parts == TRAIN) & (labels == label))
        rows = rows[np.argsort(order[rows], kind="stable")]
        test = _part(rows.size, test_fraction if cut_test else 0.0)
        val = 0 if fixed_val else max(1, _part(rows.size, val_fraction))
        if rows.size - test - val < 1:
            raise SourceError(
                "at least two different training pictures of each class",
                f"class {name!r} has {rows.size}",
                "Add pictures, or leave the class out with --classes.",
            )
        ends = [_whole(rows, digests, test), _whole(rows, digests, test + val)]
        if ends[1] >= rows.size or (val and ends[1] == ends[0]):
            raise SourceError(
                "at least two different training pictures of each class",
                f"the {rows.size} pictures of class {name!r} are copies of one another",
                "Add other pictures, or leave the class out with --classes.",
            )
        parts[rows[: ends[0]]] = TEST
        parts[rows[ends[0] : ends[1]]] = VAL
    return Split(*(np.flatnonzero(parts == part) for part in (TRAIN, VAL, TEST)))


def _part(count: int, fraction: float) -> int:
    """Return how many of ``count`` make up ``fraction``, leaving two for the other parts."""
    return max(0, min(round(count * fraction), count - 2))


def _whole(rows: NDArray[np.int64], digests: NDArray[np.uint8], end: int) -> int:
    """Move a cut behind the last copy of the picture before it."""
    while 0 < end < rows.size and np.array_equal(digests[rows[end]], digests[rows[end - 1]]):
        end += 1
    return end


def count_leaks(split: Split, digests: NDArray[np.uint8]) -> int:
    """Count test pictures whose exact copy is among those trained or chosen on."""
    if not split.test.size:
        return 0
    seen = {digests[row].tobytes() for row in np.concatenate([split.train, split.val])}
    return sum(digests[row].tobytes() in seen for row in split.test)
