"""Images as rows of numbers, which a file can repeat to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from opsin.core.arrays import Floats, Ints, Pixels
from opsin.data.lazy_images import Images

# Bytes of images read at a time.
_BLOCK: Final = 8_000_000
# Of a histogram of gradients: the side that images are averaged down to, cells along each side,
# directions in each cell, and images computed at once.
_SIDE, _CELLS, _DIRECTIONS, _ROWS = 32, 8, 9, 256


@dataclass(frozen=True)
class Pooling:
    """Pixels 0 to 1, averaged over squares in large images."""

    height: int  # of the prepared images
    width: int  # of the prepared images
    channels: int  # 1 or 3
    factor: int  # side of the squares; those at the right and lower border may be cut off

    @classmethod
    def to_fit(cls, shape: tuple[int, int, int], side: int) -> Pooling:
        """Choose the smallest squares that bring the longer side down to ``side``."""
        height, width, channels = shape
        return cls(height, width, channels, math.ceil(max(height, width) / side))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the output."""
        up = math.ceil(self.height / self.factor), math.ceil(self.width / self.factor)
        return self.channels, *up

    @property
    def features(self) -> int:
        """Numbers of an image."""
        return math.prod(self.shape)

    @property
    def padding(self) -> tuple[int, int]:
        """Rows and columns of zeros added below and at the right."""
        _, height, width = self.shape
        return height * self.factor - self.height, width * self.factor - self.width

    @property
    def divisors(self) -> Floats:
        """Divisor of each square's sum, ``float32[h, w, 1]``: 255 times its pixels."""
        _, height, width = self.shape
        rows = np.minimum(self.factor, self.height - np.arange(height) * self.factor)
        columns = np.minimum(self.factor, self.width - np.arange(width) * self.factor)
        return (255 * rows[:, None, None] * columns[None, :, None]).astype(np.float32)

    def rows_of(self, images: Pixels) -> Floats:
        """The numbers of some images, ``float32[N, features]``."""
        below, right = self.padding
        _, height, width = self.shape
        whole = np.pad(images, ((0, 0), (0, below), (0, right), (0, 0)))
        squares = whole.reshape(-1, height, self.factor, width, self.factor, self.channels)
        means = squares.sum(axis=(2, 4), dtype=np.float32) / self.divisors
        rows: Floats = means.transpose(0, 3, 1, 2).reshape(-1, self.features)
        return rows

    def read(
        self, images: Images, rows: Ints, progress: Callable[[int], None] = lambda _: None
    ) -> Floats:
        """The numbers of some rows of a dataset, read block by block."""
        result = np.empty((len(rows), self.features), np.float32)
        size = max(1, _BLOCK // math.prod(images.shape[1:]))
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            result[start : start + len(block)] = self.rows_of(images[block])
            progress(start + len(block))
        return result


def drawn(rows: Ints, labels: Ints, most: int, seed: int) -> Ints:
    """At most ``most`` rows, each class at its share and with one row at least."""
    if len(rows) <= most:
        return rows
    random = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(most * len(members) / len(rows)))
        kept.append(random.choice(members, min(count, len(members)), replace=False))
    chosen: Ints = rows[np.sort(np.concatenate(kept))]
    return chosen


def gradient_histograms(images: Images, rows: Ints) -> Floats:
    """The strength of the edges of each direction in each of 8×8 cells.

    N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection", CVPR 2005;
    here one length for the whole image, whose counts are rooted.
    """
    height, width, channels = images.shape[1:]
    pooling = Pooling.to_fit((height, width, channels), _SIDE)
    _, height, width = pooling.shape
    cell = _CELLS * (np.arange(height) * _CELLS // height)[:, None]
    cell = cell + np.arange(width) * _CELLS // width
    histograms = np.zeros((len(rows), _CELLS**2 * _DIRECTIONS), np.float32)
    for start in range(0, len(rows), _ROWS):
        part = histograms[start : start + _ROWS]
        pixels = pooling.read(images, rows[start : start + _ROWS])
        grey = np.sqrt(pixels.reshape(-1, channels, height, width).mean(axis=1))
        around = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
        down = around[:, 2:, 1:-1] - around[:, :-2, 1:-1]
        right = around[:, 1:-1, 2:] - around[:, 1:-1, :-2]
        direction = np.arctan2(down, right) * (_DIRECTIONS / np.pi) % _DIRECTIONS
        lower = direction.astype(np.int64) % _DIRECTIONS
        share, strength = direction % 1, np.hypot(down, right)
        first = np.arange(len(part))[:, None, None] * histograms.shape[1] + cell * _DIRECTIONS
        for weight, bin_ in ((1 - share, lower), (share, (lower + 1) % _DIRECTIONS)):
            counts = np.bincount((first + bin_).ravel(), (strength * weight).ravel(), part.size)
            part += counts.reshape(part.shape)
    histograms = np.sqrt(histograms)
    length = np.sqrt(np.square(histograms).sum(axis=1, keepdims=True))
    return np.asarray(histograms / np.maximum(length, np.float32(1e-6)), np.float32)
