"""Images become rows of numbers, in a way that a file can repeat to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.data.lazy_images import Images

# Bytes of images read at a time.
_BLOCK: Final = 8_000_000


@dataclass(frozen=True)
class Pooling:
    """Pixels 0 to 1, means over squares where the images are large.

    Args:
        height: Of the prepared images.
        width: Of the prepared images.
        channels: 1 or 3.
        factor: Side of the squares; those at the right and lower border may be cut off.
    """

    height: int
    width: int
    channels: int
    factor: int

    @classmethod
    def to_fit(cls, shape: tuple[int, int, int], side: int) -> Pooling:
        """Choose the smallest squares that bring the longer side down to ``side``."""
        height, width, channels = shape
        return cls(height, width, channels, math.ceil(max(height, width) / side))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what comes out."""
        up = math.ceil(self.height / self.factor), math.ceil(self.width / self.factor)
        return self.channels, *up

    @property
    def features(self) -> int:
        """Numbers of an image."""
        return math.prod(self.shape)

    @property
    def padding(self) -> tuple[int, int]:
        """Rows and columns of nothing that are added below and at the right."""
        _, height, width = self.shape
        return height * self.factor - self.height, width * self.factor - self.width

    @property
    def divisors(self) -> NDArray[np.float32]:
        """What each square's sum is divided by, ``float32[h, w, 1]``: 255 times its pixels."""
        _, height, width = self.shape
        rows = np.minimum(self.factor, self.height - np.arange(height) * self.factor)
        columns = np.minimum(self.factor, self.width - np.arange(width) * self.factor)
        return (255 * rows[:, None, None] * columns[None, :, None]).astype(np.float32)

    def rows_of(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the numbers of some images, ``float32[N, features]``."""
        below, right = self.padding
        _, height, width = self.shape
        whole = np.pad(images, ((0, 0), (0, below), (0, right), (0, 0)))
        squares = whole.reshape(-1, height, self.factor, width, self.factor, self.channels)
        means = squares.sum(axis=(2, 4), dtype=np.float32) / self.divisors
        rows: NDArray[np.float32] = means.transpose(0, 3, 1, 2).reshape(-1, self.features)
        return rows

    def read(
        self,
        images: Images,
        rows: NDArray[np.int64],
        progress: Callable[[int], None] = lambda _: None,
    ) -> NDArray[np.float32]:
        """Return the numbers of some rows of a dataset, read block by block."""
        found = np.empty((len(rows), self.features), np.float32)
        size = max(1, _BLOCK // math.prod(images.shape[1:]))
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            found[start : start + len(block)] = self.rows_of(images[block])
            progress(start + len(block))
        return found


def drawn(
    rows: NDArray[np.int64], labels: NDArray[np.int64], most: int, seed: int
) -> NDArray[np.int64]:
    """Return at most ``most`` rows, each class at its share and with one row at least."""
    if len(rows) <= most:
        return rows
    random = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        count = max(1, round(most * len(own) / len(rows)))
        kept.append(random.choice(own, min(count, len(own)), replace=False))
    chosen: NDArray[np.int64] = rows[np.sort(np.concatenate(kept))]
    return chosen
