"""Mean and deviation of the training images, which a network starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from opsin.core.arrays import Doubles, Floats, Ints
from opsin.data.lazy_images import Images

# Pixels whose patches are measured: the twelve directions of 2×2 colour pixels need no more.
_PATCHED: Final = 4_000_000
_BLOCK: Final = 250_000
# Added to each variance, so that directions in which nothing varies are not blown up.
_FLOOR: Final = 5e-4


@dataclass(frozen=True)
class Statistics:
    """Figures over the training images that go into a network's first layers."""

    mean: list[float]  # mean of each channel, 0 to 255
    deviation: list[float]  # standard deviation of each channel
    # Filters that give the patches of 2×2 normalised pixels variance 1 in every direction, and
    # their negatives, ``float32[8C, C, 2, 2]``; ``None`` to leave a network that has such a layer
    # with random ones.
    whitening: Floats | None = None


def statistics_of(images: Images, rows: Ints) -> Statistics:
    """Return the statistics of some of the images."""
    channels = images.shape[3]
    count = 0
    total = np.zeros(channels, np.int64)
    squares = np.zeros(channels, np.int64)
    for start in range(0, len(rows), 1024):
        block = images[rows[start : start + 1024]].reshape(-1, channels)
        count += len(block)
        total += block.sum(axis=0, dtype=np.int64)
        squares += np.square(block, dtype=np.uint16).sum(axis=0, dtype=np.int64)
    mean = total / count
    # A channel that never changes is not scaled.
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 1.0))
    # Spread over the rows, which may be sorted by class.
    enough = min(len(rows), max(16, _PATCHED // (images.shape[1] * images.shape[2])))
    some = rows[np.linspace(0, len(rows) - 1, enough).astype(np.int64)]
    return Statistics(mean.tolist(), deviation.tolist(), _whitening(images, some, mean, deviation))


def _whitening(images: Images, rows: Ints, mean: Doubles, deviation: Doubles) -> Floats:
    """Return the eigenvectors of the patches' covariance, each over the root of its eigenvalue.

    As in K. Jordan's cifar10-airbench, after D. Page, "How to train your ResNet", 2018.
    """
    channels = images.shape[3]
    covariance = np.zeros((4 * channels, 4 * channels))
    count = 0
    size = max(1, _BLOCK // (images.shape[1] * images.shape[2]))
    for start in range(0, len(rows), size):
        block = ((images[rows[start : start + size]] - mean) / deviation).transpose(0, 3, 1, 2)
        corners = [
            block[:, :, y : y - 1 or None, x : x - 1 or None] for y in (0, 1) for x in (0, 1)
        ]
        # One row a patch, in the order of a filter's own numbers: channel, then row, then column.
        patches = np.stack(corners, axis=2).transpose(0, 3, 4, 1, 2).reshape(-1, 4 * channels)
        covariance += patches.T @ patches
        count += len(patches)
    values, vectors = np.linalg.eigh(covariance / count)
    filters = (vectors / np.sqrt(values + _FLOOR)).T.reshape(-1, channels, 2, 2)
    return np.concatenate([filters, -filters]).astype(np.float32)
