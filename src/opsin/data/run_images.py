"""The pictures that a run was made from, as it wrote them down and where they are now."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.csv_cells import Reader
from opsin.core.errors import RunError
from opsin.data.cache import Decoded, as_keys, short_digest

_One = TypeVar("_One")


class RunImage(NamedTuple):
    """A picture as a run keeps it: a row of ``pictures.csv``.

    Args:
        name: What it is called: its path below the source, or ``train/123``.
        label: Its class.
        part: ``train``, ``val`` or ``test``.
        digest: First 16 bytes of the SHA-256 of its prepared pixels, as hexadecimal digits.
    """

    name: str
    label: str
    part: str
    digest: str


def read_pictures(directory: RunDirectory) -> list[RunImage]:
    """Read what `write_pictures` wrote."""
    file = directory.pictures
    if not file.is_file():
        raise RunError(
            f"{file.name} in the run directory",
            f"{directory.path} has none: it was made by an earlier Opsin",
            "Train again, to compare with that run from then on.",
        )
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = Reader(stream, strict=True)
            if next(rows, None) != list(RunImage._fields):
                raise ValueError("it lacks some of its columns")
            pictures = [RunImage(*row) for row in rows]
            if any(len(picture.digest) != 32 for picture in pictures):
                raise ValueError("it was cut short")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RunError(
            f"a table in {file.name}", f"{file} is damaged ({error})", "Restore it, or train again."
        ) from error
    return pictures


def pair_up(
    then: Sequence[_One], now: Sequence[_One], keys: Sequence[Callable[[_One], Hashable]]
) -> list[tuple[int, int, int]]:
    """Pair what is the same on two sides one to one: no place of either side is used twice.

    Args:
        then: One side.
        now: The other side.
        keys: What two of a pair have in common: all that agree by the first are paired, of the
            rest those that agree by the second, and so on; in their order on both sides.

    Returns:
        For each pair its place in ``then``, its place in ``now``, and the place of its key.

    Example:
        >>> pair_up(["a1", "a2"], ["a2", "b1", "a3"], [lambda x: x, lambda x: x[0]])
        [(1, 0, 0), (0, 2, 1)]
    """
    pairs: list[tuple[int, int, int]] = []
    ones, others = list(range(len(then))), list(range(len(now)))
    for step, key in enumerate(keys):
        if not ones or not others:
            break
        places: dict[Hashable, list[int]] = defaultdict(list)
        for place in reversed(others):
            places[key(now[place])].append(place)
        found = [
            (one, waiting.pop(), step) for one in ones if (waiting := places.get(key(then[one])))
        ]
        pairs += found
        gone, taken = {one for one, _, _ in found}, {other for _, other, _ in found}
        ones = [one for one in ones if one not in gone]
        others = [other for other in others if other not in taken]
    return pairs


# What a picture of a run and one of today have in common: a name may have changed.
_SAME: Final[tuple[Callable[[RunImage], Hashable], ...]] = (
    lambda p: (p.digest, p.label, p.name),
    lambda p: (p.digest, p.label),
)


def rows_of_run(directory: RunDirectory, decoded: Decoded) -> NDArray[np.int64] | None:
    """Return where each picture of a run is today.

    Files that were renamed come in another order, so that the run's rows mean other pictures. They
    are told by pixels and class, one to one: of exact copies in two classes each keeps its own.

    Args:
        directory: The run.
        decoded: The pictures as they are now, the run's corrections applied.

    Returns:
        For each row of the run's files a row of ``decoded``, ``int64[N]``; ``None`` where they are
        not the pictures that the run was made from.

    Raises:
        RunError: One of the run's files is damaged.
    """
    split = directory.load_arrays(directory.split)
    here, mine = short_digest(decoded.digests), split["digests"]
    if here.shape != mine.shape:
        return None
    if np.array_equal(here, mine) and len(np.unique(as_keys(mine))) == len(mine):
        return np.arange(len(mine))
    classes = decoded.about["classes"]
    now = [
        RunImage(name, classes[label], "", digest.tobytes().hex())
        for name, label, digest in zip(decoded.about["names"], decoded.labels, here, strict=True)
    ]
    keys = _SAME
    if directory.pictures.is_file():
        then = read_pictures(directory)
    else:  # a run of before names were kept: copies are told by their classes, where these are
        then = _without_names(directory, mine, classes)
        keys = (_SAME[1], lambda p: p.digest)
    rows = np.full(len(mine), -1)
    for one, other, _ in pair_up(then, now, keys) if len(then) == len(rows) else ():
        rows[one] = other
    return None if (rows < 0).any() else rows


def _without_names(
    directory: RunDirectory, digests: NDArray[np.uint8], classes: Sequence[str]
) -> list[RunImage]:
    """Return the pictures of a run that kept no names, with the classes of those it answered."""
    labels = [""] * len(digests)
    if directory.predictions.is_file():
        kept = directory.load_arrays(directory.predictions)
        for part in ("val", "test"):
            for row, label in zip(
                kept.get(f"{part}_rows", ()), kept.get(f"{part}_labels", ()), strict=True
            ):
                labels[row] = classes[label]
    return [
        RunImage("", label, "", digest.tobytes().hex())
        for label, digest in zip(labels, digests, strict=True)
    ]
