"""Which images may be near duplicates of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.events import Watcher
from opsin.data.near_duplicates.thumbnails import CropWindow, Floats, Thumbnails, blocks

#: Images drawn at random, that say how alike images of this collection usually are.
SAMPLE: Final = 2000
_OFFSETS = (0.0, 0.04, 0.08)
CROPS: Final = (
    CropWindow(),
    *(CropWindow(0.92, top, left) for top in _OFFSETS for left in _OFFSETS),
)
# Distance up to which images may be frames of the same scene; from which they are of another; and
# the share of the one in the other that makes a gap.
_CLOSE, _FAR, _GAP = 0.12, 0.12, 0.4
# A candidate's descriptor agrees this far, and is this much nearer than a random image's.
_LEAST_ALIKE, _ALIKE_RATIO = 0.93, 0.6
_LEAF, _TREES, _COMPONENTS = 256, 3, 16
# Images that one may be a candidate with; more where that costs little.
_MOST, _MOST_OF_FEW, _FEW = 4, 12, 10_000


def query_crops(*, mirrored: bool) -> list[CropWindow]:
    """Return the crops that ask, the whole image first, and with ``mirrored`` their images."""
    turns = (False, True) if mirrored else (False,)
    return [replace(crop, mirrored=turn) for turn in turns for crop in CROPS]


def find_candidates(
    small: Thumbnails, ways: Sequence[CropWindow], watcher: Watcher
) -> tuple[Candidates, Drawn]:
    """Ask for each image's crops, and keep the few images that are most like them."""
    count = len(small)
    whole = small.all_descriptors(ways[0])
    drawn = Drawn.among(whole)
    least = np.maximum(_LEAST_ALIKE, 1 - _ALIKE_RATIO * (1 - drawn.usual)).astype(np.float32)
    random = np.random.default_rng(1)
    trees = [_Tree.grow(whole, random) for _ in range(_TREES)]
    most = _MOST if count > _FEW else _MOST_OF_FEW
    kept: list[Candidates] = []
    for number, way in enumerate(ways):
        asking = whole if number == 0 else small.all_descriptors(way)
        for tree in trees:
            kept += list(tree.search(whole, asking, least, number, most))
        kept = [Candidates.joined(kept).best(most)] if kept else []
        watcher.advance((2 + number) * count)
    # Of a scene's many frames each finds a few only; one that all of them name holds them together.
    naming = np.flatnonzero(drawn.named >= 0)
    alike = (whole[naming] * whole[drawn.named[naming]]).sum(axis=1)
    frames = Candidates(naming, drawn.named[naming], alike, np.zeros(len(naming), np.int64))
    return Candidates.joined([*kept, frames]).once(), drawn


@dataclass(frozen=True)
class Drawn:
    """Images drawn at random, to which others are held.

    Args:
        rows: Which they are, ``int64[S]``.
        descriptors: Of all images, ``float32[N, D]``.
        limits: Distance up to which a drawn image is a copy of this one or another frame of the
            same scene, ``float32[N]``; -1 where none is.
        usual: How like each image those beyond the gap are, or the fourth, ``float32[N]``.
        named: Of its copies and frames the one that was drawn first, ``int64[N]``, -1 for none:
            all frames of a scene name the same one.
    """

    rows: NDArray[np.int64]
    descriptors: Floats
    limits: Floats
    usual: Floats
    named: NDArray[np.int64]

    @classmethod
    def among(cls, descriptors: Floats) -> Drawn:
        """Draw, and find the gap between each image's own kind and the rest, if there is one."""
        count = len(descriptors)
        rows = np.random.default_rng(0).permutation(count)[:SAMPLE]
        parts = [_beyond_the_gap(descriptors, rows, block) for block in blocks(count)]
        limits, usual, named = (np.concatenate(part) for part in zip(*parts, strict=True))
        return cls(rows, descriptors, limits, usual, named)

    def strangers(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of those drawn are neither the image itself nor of its kind, ``bool[M, S]``.

        What they have in common with it is what images of this collection usually have.
        """
        away = 1 - self.descriptors[rows] @ self.descriptors[self.rows].T
        # A little more than the limit, since sums in another order are rounded otherwise.
        far = away > self.limits[rows][:, None] + 1e-3
        strangers: NDArray[np.bool_] = far & (rows[:, None] != self.rows)
        return strangers


def _beyond_the_gap(
    descriptors: Floats, rows: NDArray[np.int64], block: slice
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return limit, usual likeness and the one named, for a block of images (see `Drawn`)."""
    away = 1 - descriptors[block] @ descriptors[rows].T
    away[np.arange(block.start, block.stop)[:, None] == rows] = 2
    # Of a large collection few of a kind are drawn.
    most = len(rows) if len(descriptors) <= 5 * SAMPLE else min(64, len(rows))
    places = np.argpartition(away, most - 1, axis=1)[:, :most]
    near = np.take_along_axis(away, places, axis=1).clip(0)
    order = np.argsort(near, axis=1, kind="stable")
    near, places = (np.take_along_axis(part, order, axis=1) for part in (near, places))
    last, following = near[:, :-1], near[:, 1:]
    gap = (last <= np.minimum(_CLOSE, _GAP * following)) & (following >= _FAR) & (following < 2)
    beyond = np.where(gap, np.arange(1, near.shape[1]), 0).max(axis=1, initial=0)
    before = np.arange(near.shape[1]) < beyond[:, None]
    first = np.where(before, places, len(rows)).min(axis=1)
    row = np.arange(len(near))
    limits = np.where(beyond > 0, near[row, np.maximum(beyond - 1, 0)], -1).astype(np.float32)
    # Without a gap the fourth nearest: copies of images that are all alike must find each other.
    usual = np.where(beyond > 0, near[row, beyond], near[:, min(3, near.shape[1] - 1)])
    return limits, 1 - usual, np.append(rows, -1)[first]


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
    """A random-projection tree: cells of images that lie together.

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
        self, points: Floats, asking: Floats, least: Floats, way: int, most: int
    ) -> Iterator[Candidates]:
        """Yield, cell by cell, pairs whose scalar product reaches the asker's ``least``.

        At least the ``most`` best of each asker are among them.
        """
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
                yield found.best(most) if row.size > most * len(askers) else found
