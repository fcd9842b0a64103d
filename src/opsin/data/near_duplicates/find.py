"""Near duplicates of a whole collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import Images
from opsin.data.near_duplicates.align import Pairs, verify
from opsin.data.near_duplicates.candidates import find_candidates, query_crops
from opsin.data.near_duplicates.thumbnails import SIDE, Floats, Thumbnails

#: Images with a shorter side have too little detail to tell a copy from a likeness.
SMALLEST: Final = 16
_FINE_SIDE: Final = 64


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of images that are the same one, changed.

    Args:
        pairs: Rows of both images, the smaller first, ``int64[M, 2]``; the most alike pair first.
        likeness: Correlation of each pair's detail after alignment, ``float32[M]``.
        mirrored: Whether one is the other's mirror image, ``bool[M]``.
    """

    pairs: NDArray[np.int64]
    likeness: Floats
    mirrored: NDArray[np.bool_]

    def among(self, rows: NDArray[np.int64]) -> NearDuplicates:
        """Return the pairs that are left of some images, as places among these.

        Args:
            rows: The images, ``int64[N]``, none twice.
        """
        place = np.full(max(rows.max(initial=-1), self.pairs.max(initial=-1)) + 1, -1)
        place[rows] = np.arange(len(rows))
        pairs = np.sort(place[self.pairs], axis=1)
        left = pairs.min(axis=1, initial=len(rows)) >= 0
        return NearDuplicates(pairs[left], self.likeness[left], self.mirrored[left])


NO_PAIRS: Final = NearDuplicates(
    np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.zeros(0, bool)
)


def find_near_duplicates(
    images: Images, rows: NDArray[np.int64], *, mirrored: bool = True, watcher: Watcher = SILENT
) -> NearDuplicates:
    """Find pairs of rows that show the same image.

    Args:
        images: ``uint8[N, H, W, C]``
        rows: Which of them to compare, ``int64[M]``; exact copies should be there once only.
        mirrored: Whether mirror images count.
        watcher: Receives the progress of the work.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 1), np.uint8)
        >>> noise[7] = noise[3] // 2 + 20
        >>> find_near_duplicates(noise, np.arange(50)).pairs.tolist()
        [[3, 7]]
    """
    if min(images.shape[1:3]) < SMALLEST or len(rows) < 2:
        return NO_PAIRS
    ways = query_crops(mirrored=mirrored)
    watcher.begin("Compare", len(rows) * (1 + len(ways)), "images")
    small = Thumbnails.of(images, rows)
    watcher.advance(len(rows))
    candidates, drawn = find_candidates(small, ways, watcher)
    windows = np.array([(way.scale, way.top, way.scale, way.left) for way in ways], np.float32)
    mirrored_ways = np.array([way.mirrored for way in ways])
    pairs = Pairs(
        np.stack([candidates.asked, candidates.other], axis=1),
        windows[candidates.way],
        mirrored_ways[candidates.way],
    )
    place = np.arange(len(rows))
    pairs = verify(small.grey, place, pairs, drawn)
    if len(pairs.rows) and max(images.shape[1:3]) > SIDE:
        # Only of those that are left, since all of them would need four times the memory.
        few = np.unique(np.concatenate([pairs.rows.ravel(), drawn.rows]))
        place[few] = np.arange(len(few))
        fine = Thumbnails.of(images, rows[few], side=_FINE_SIDE).grey
        pairs = verify(fine, place, pairs, drawn)
    watcher.end()
    order = np.argsort(-pairs.likeness, kind="stable")
    return NearDuplicates(
        np.sort(rows[pairs.rows[order]], axis=1), pairs.likeness[order], pairs.mirrored[order]
    )
