"""Histograms of gradients: what the shapes in an image say without any training."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.classical.pixels import Pooling
from opsin.data.lazy_images import Images

# Side that images are averaged down to, cells along each side, and directions in each cell.
_SIDE: Final = 32
_CELLS: Final = 8
_DIRECTIONS: Final = 9
_ROWS: Final = 256


def gradient_histograms(images: Images, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return how strong the edges of each direction are in each of 8×8 cells.

    N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection", CVPR 2005;
    here one length for the whole image, whose counts are rooted.
    """
    height, width, channels = images.shape[1:]
    pooling = Pooling.to_fit((height, width, channels), _SIDE)
    _, height, width = pooling.shape
    cell = _CELLS * (np.arange(height) * _CELLS // height)[:, None]
    cell = cell + np.arange(width) * _CELLS // width
    found = np.zeros((len(rows), _CELLS**2 * _DIRECTIONS), np.float32)
    for start in range(0, len(rows), _ROWS):
        part = found[start : start + _ROWS]
        pixels = pooling.read(images, rows[start : start + _ROWS])
        grey = np.sqrt(pixels.reshape(-1, channels, height, width).mean(axis=1))
        around = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
        down = around[:, 2:, 1:-1] - around[:, :-2, 1:-1]
        right = around[:, 1:-1, 2:] - around[:, 1:-1, :-2]
        direction = np.arctan2(down, right) * (_DIRECTIONS / np.pi) % _DIRECTIONS
        lower = direction.astype(np.int64) % _DIRECTIONS
        share, strength = direction % 1, np.hypot(down, right)
        first = np.arange(len(part))[:, None, None] * found.shape[1] + cell * _DIRECTIONS
        for weight, bin_ in ((1 - share, lower), (share, (lower + 1) % _DIRECTIONS)):
            counts = np.bincount((first + bin_).ravel(), (strength * weight).ravel(), part.size)
            part += counts.reshape(part.shape)
    found = np.sqrt(found)
    length = np.sqrt(np.square(found).sum(axis=1, keepdims=True))
    return np.asarray(found / np.maximum(length, np.float32(1e-6)), np.float32)
