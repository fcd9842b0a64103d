"""Which pictures may be near duplicates of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.data.near.thumbnails import Floats, Thumbnails, Way, blocks
from opsin.events import Watcher

#: Pictures drawn at random, that say how alike pictures of this collection usually are.
SAMPLE: Final = 2000
_OFFSETS = (0.0, 0.04, 0.08)
CROPS: Final = (Way(), *(Way(0.92, top, left) for top in _OFFSETS for left in _OFFSETS))
# A candidate's descriptor agrees this far, and is this much nearer than a random picture's.
_LEAST_ALIKE, _ALIKE_RATIO = 0.93, 0.6
_LEAF, _TREES, _COMPONENTS = 256, 3, 16
_MOST: Final = 4


def ways_of_asking(*, mirrored: bool) -> list[Way]:
    """Return the crops that ask, the whole picture first, and with ``mirrored`` their images."""
    turns = (False, True) if mirrored else (False,)
    return [replace(crop, mirrored=turn) for turn in turns for crop in CROPS]


def find_candidates(small: Thumbnails, ways: Sequence[Way], watcher: Watcher) -> Candidates:
    """Ask for each picture's crops, and keep the few pictures that are most like them."""
    count = len(small)
    whole = small.all_descriptors(ways[0])
    random = np.random.default_rng(0)
    sample, everyone = random.permutation(count)[:SAMPLE], np.arange(count)
    reference = np.concatenate(
        [
            nearest_drawn(whole[block], everyone[block], whole[sample], sample, count)[0][:, -1]
            for block in blocks(count)
        ]
    )
    least = np.maximum(_LEAST_ALIKE, 1 - _ALIKE_RATIO * (1 - reference)).astype(np.float32)
    trees = [_Tree.grow(whole, random) for _ in range(_TREES)]
    kept: list[Candidates] = []
    for number, way in enumerate(ways):
        asking = whole if number == 0 else small.all_descriptors(way)
        for tree in trees:
            kept += list(tree.search(whole, asking, least, number))
        kept = [Candidates.joined(kept).best(_MOST)] if kept else []
        watcher.advance((2 + number) * count)
    if not kept:
        nothing = np.zeros(0, np.int64)
        return Candidates(nothing, nothing, np.zeros(0, np.float32), nothing)
    return kept[0].once()


def nearest_drawn(
    vectors: Floats, rows: NDArray[np.int64], drawn: Floats, sample: NDArray[np.int64], count: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the pictures drawn at random that are most like each vector, itself apart.

    What a picture has in common with the last of them is what pictures of this collection usually
    have in common: the second nearest, so that a copy that was drawn does not count. Of a small
    collection most pictures are drawn, copies too: there it is the fourth.

    Args:
        vectors: Of length 1, ``float32[M, D]``.
        rows: Which pictures they are of, ``int64[M]``.
        drawn: Those of the pictures drawn, ``float32[S, D]``.
        sample: Which pictures were drawn, ``int64[S]``.
        count: Pictures in the collection.

    Returns:
        How like they are, the most like first, ``float32[M, R]``, and which, ``int64[M, R]``.
    """
    alike = vectors @ drawn.T
    alike[rows[:, None] == sample[None, :]] = -1
    rank = min(2 + round(2 * len(sample) / count), alike.shape[1])
    places = np.argpartition(alike, -rank, axis=1)[:, -rank:]
    values = np.take_along_axis(alike, places, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return (
        np.take_along_axis(values, order, axis=1),
        sample[np.take_along_axis(places, order, axis=1)],
    )


@dataclass(frozen=True)
class Candidates:
    """Pairs to be looked at: who asked, whom it resembles, how much, by which crop and turn."""

    asked: NDArray[np.int64]
    other: NDArray[np.int64]
    alike: Floats
    way: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: list[Candidates]) -> Candidates:
        """Put candidates behind each other."""
        return cls(
            np.concatenate([part.asked for part in parts]),
            np.concatenate([part.other for part in parts]),
            np.concatenate([part.alike for part in parts]),
            np.concatenate([part.way for part in parts]),
        )

    def take(self, places: NDArray[Any]) -> Candidates:
        """Keep some."""
        return Candidates(
            self.asked[places], self.other[places], self.alike[places], self.way[places]
        )

    def best(self, count: int) -> Candidates:
        """Keep each pair once, and of each asker's pairs the ``count`` most alike."""
        kept = self.take(np.lexsort((-self.alike, self.other, self.asked)))
        new = (np.diff(kept.asked, prepend=-1) != 0) | (np.diff(kept.other, prepend=-1) != 0)
        kept = kept.take(new)
        kept = kept.take(np.lexsort((-kept.alike, kept.asked)))
        first = np.flatnonzero(np.diff(kept.asked, prepend=-1))
        rank = np.arange(len(kept.asked)) - np.repeat(
            first, np.diff(np.append(first, len(kept.asked)))
        )
        return kept.take(rank < count)

    def once(self) -> Candidates:
        """Keep the better of each pair's two directions."""
        low, high = np.minimum(self.asked, self.other), np.maximum(self.asked, self.other)
        order = np.lexsort((-self.alike, high, low))
        low, high = low[order], high[order]
        new = (np.diff(low, prepend=-1) != 0) | (np.diff(high, prepend=-1) != 0)
        return self.take(order[new])


@dataclass(frozen=True)
class _Tree:
    """A random-projection tree: cells of pictures that lie together.

    Args:
        directions: One for each level, ``float32[D, L]``.
        thresholds: For each level, the median of each of its nodes.
        members: Rows in the order of their cells, ``int64[N]``.
        borders: Where each cell begins, ``int64[2**L + 1]``.
    """

    directions: Floats
    thresholds: list[Floats]
    members: NDArray[np.int64]
    borders: NDArray[np.int64]

    @classmethod
    def grow(cls, points: Floats, random: np.random.Generator) -> _Tree:
        """Halve the points again and again, along random mixtures of their main directions."""
        levels = max(0, int(np.ceil(np.log2(len(points) / _LEAF))))
        sample = points[random.permutation(len(points))[:20_000]]
        _, spread, axes = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)
        spread, axes = spread[:_COMPONENTS], axes[:_COMPONENTS]
        directions = (axes.T * spread) @ random.normal(size=(len(axes), levels))
        directions = directions.astype(np.float32)
        places = points @ directions
        cell = np.zeros(len(points), np.int64)
        thresholds = []
        for level in range(levels):
            order = np.lexsort((places[:, level], cell))
            borders = np.searchsorted(cell[order], np.arange(2**level + 1))
            middle = np.minimum((borders[:-1] + borders[1:]) // 2, len(points) - 1)
            thresholds.append(places[order[middle], level])
            cell = 2 * cell + (places[:, level] >= thresholds[level][cell])
        members = np.argsort(cell, kind="stable")
        return cls(
            directions,
            thresholds,
            members,
            np.searchsorted(cell[members], np.arange(2**levels + 1)),
        )

    def search(
        self, points: Floats, asking: Floats, least: Floats, way: int
    ) -> Iterator[Candidates]:
        """Yield, cell by cell, the pairs whose scalar product reaches the asker's ``least``."""
        places = asking @ self.directions
        cell = np.zeros(len(asking), np.int64)
        for level, thresholds in enumerate(self.thresholds):
            cell = 2 * cell + (places[:, level] >= thresholds[cell])
        order = np.argsort(cell, kind="stable")
        borders = np.searchsorted(cell[order], np.arange(len(self.borders)))
        for number in range(len(self.borders) - 1):
            askers = order[borders[number] : borders[number + 1]]
            others = self.members[self.borders[number] : self.borders[number + 1]]
            alike = asking[askers] @ points[others].T
            row, column = np.nonzero(alike >= least[askers][:, None])
            distinct = askers[row] != others[column]
            row, column = row[distinct], column[distinct]
            if row.size:
                found = Candidates(
                    askers[row], others[column], alike[row, column], np.full(row.size, way)
                )
                yield found.best(_MOST) if row.size > _MOST * len(askers) else found
