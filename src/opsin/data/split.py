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
    pictures stand side by side, and are dealt out together.

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
        runs = _runs_of_copies(rows, digests)
        if len(runs) < (1 if fixed_val else 2):
            raise SourceError(
                "at least two different training pictures of each class",
                f"class {name!r} has {len(runs)}",
                "Add pictures, or leave the class out with --classes.",
            )
        if cut_test:
            taken, runs = _take(runs, round(rows.size * test_fraction), leave=2)
            parts[taken] = TEST
        if not fixed_val:
            wanted = max(1, round(rows.size * val_fraction))
            taken, runs = _take(runs, wanted, leave=1)
            parts[taken if taken.size else min(runs, key=len)] = VAL
    return Split(*(np.flatnonzero(parts == part) for part in (TRAIN, VAL, TEST)))


def _runs_of_copies(rows: NDArray[np.int64], digests: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Part rows, in the order of their hashes, into runs of equal pictures."""
    if not rows.size:
        return []
    differs = np.any(digests[rows[1:]] != digests[rows[:-1]], axis=1)
    return np.split(rows, np.flatnonzero(differs) + 1)


def _take(
    runs: list[NDArray[np.int64]], wanted: int, *, leave: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Take runs in their order until they hold ``wanted`` pictures, passing over those too long.

    Returns:
        The rows taken, and the runs that are left, at least ``leave`` of them.
    """
    taken: list[NDArray[np.int64]] = []
    rest: list[NDArray[np.int64]] = []
    missing, spare = wanted, len(runs) - leave
    for run in runs:
        if len(run) <= missing and len(taken) < spare:
            taken.append(run)
            missing -= len(run)
        else:
            rest.append(run)
    return np.concatenate([np.empty(0, np.int64), *taken]), rest


def count_leaks(split: Split, digests: NDArray[np.uint8]) -> int:
    """Count test pictures whose exact copy is among those trained or chosen on."""
    if not split.test.size:
        return 0
    seen = {digests[row].tobytes() for row in np.concatenate([split.train, split.val])}
    return sum(digests[row].tobytes() in seen for row in split.test)
