"""Images shrunk to what near duplicates are found by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.data.lazy_images import Images

Floats = NDArray[np.float32]

#: Side that images are compared at.
SIDE: Final = 32
_COLOUR_SIDE: Final = 8
_FREQUENCIES, _COLOUR_FREQUENCIES = 8, 3
_BLOCK: Final = 2048


@dataclass(frozen=True)
class CropWindow:
    """A crop that asks: its size and place as shares of the sides, and whether it is mirrored."""

    scale: float = 1.0
    top: float = 0.0
    left: float = 0.0
    mirrored: bool = False


@dataclass(frozen=True)
class Thumbnails:
    """Brightness ``uint8[N, h, w]`` and colour differences ``float32[N, 8, 8, 2]``, if any."""

    grey: NDArray[np.uint8]
    colour: Floats | None

    @classmethod
    def of(cls, images: Images, rows: NDArray[np.int64], *, side: int = SIDE) -> Thumbnails:
        """Shrink images by averaging; smaller ones stay as they are."""
        _, height, width, channels = images.shape
        down = _average(height, min(side, height)), _average(width, min(side, width))
        coarse_down, coarse_across = (_average(len(each), _COLOUR_SIDE) for each in down)
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        grey = np.empty((len(rows), len(down[0]), len(down[1])), np.uint8)
        colour = np.empty((len(rows), _COLOUR_SIDE, _COLOUR_SIDE, 2), np.float32)
        for block in blocks(len(rows), 512):
            pixels = images[rows[block]].astype(np.float32)
            count = len(pixels)
            small = (down[0] @ pixels.reshape(count, height, -1)).reshape(
                count, -1, width, channels
            )
            small = down[1] @ small
            light = small[..., 0] if channels == 1 else small @ weights
            grey[block] = (light + 0.5).astype(np.uint8)
            if channels == 3:
                for place, channel in enumerate((0, 2)):
                    difference = small[..., channel] - light
                    colour[block, ..., place] = coarse_down @ difference @ coarse_across.T
        return cls(grey, colour if channels == 3 else None)

    def __len__(self) -> int:
        return len(self.grey)

    def all_descriptors(self, way: CropWindow) -> Floats:
        """Return a descriptor for a crop of each image, ``float32[N, D]``."""
        return np.concatenate([self._descriptors(block, way) for block in blocks(len(self))])

    def _descriptors(self, block: slice, way: CropWindow) -> Floats:
        _, height, width = self.grey.shape
        down = _cosines(height, _FREQUENCIES) @ _resampling(height, way.scale, way.top)
        across = _cosines(width, _FREQUENCIES) @ _resampling(width, way.scale, way.left)
        if way.mirrored:  # of a mirror image the odd frequencies change their sign
            across[1::2] *= -1
        light = (down @ self.grey[block].astype(np.float32) @ across.T).reshape(
            -1, _FREQUENCIES**2
        )[:, 1:]
        parts = [light]
        if self.colour is not None:
            cosines = _cosines(_COLOUR_SIDE, _COLOUR_FREQUENCIES)
            down = cosines @ _resampling(_COLOUR_SIDE, way.scale, way.top)
            across = cosines @ _resampling(_COLOUR_SIDE, way.scale, way.left)
            if way.mirrored:
                across[1::2] *= -1
            # Both are orthonormal transforms: the same weight for each pixel of the original.
            share = np.sqrt(height * width) / _COLOUR_SIDE
            for place in range(2):
                part = down @ self.colour[block, ..., place] @ across.T
                parts.append(share * part.reshape(-1, _COLOUR_FREQUENCIES**2))
        return unit(np.concatenate(parts, axis=1))


def unit(vectors: Floats) -> Floats:
    """Scale vectors to length 1; those of length 0 stay as they are."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = (vectors / np.maximum(length, 1e-3)).astype(np.float32)
    return scaled


def blocks(count: int, size: int = _BLOCK) -> Iterator[slice]:
    """Yield slices that cover ``count`` rows, ``size`` at a time."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _cosines(size: int, frequencies: int) -> Floats:
    """Return the orthonormal cosine transform's first rows, ``float32[frequencies, size]``."""
    places = np.pi * (np.arange(size) + 0.5) / size
    rows = np.cos(places * np.arange(frequencies)[:, None]) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    cosines: Floats = rows.astype(np.float32)
    return cosines


def _resampling(size: int, scale: float, offset: float) -> Floats:
    """Return the matrix that brings a crop back to the full size, ``float32[size, size]``."""
    place = (((np.arange(size) + 0.5) / size * scale + offset) * size - 0.5).clip(0, size - 1)
    low = np.minimum(place.astype(np.int64), size - 2)
    matrix = np.zeros((size, size), np.float32)
    matrix[np.arange(size), low] = 1 - (place - low)
    matrix[np.arange(size), low + 1] += place - low
    return matrix


def _average(size: int, smaller: int) -> Floats:
    """Return the matrix that averages ``size`` pixels to ``smaller``, by the area they cover."""
    edges = np.arange(smaller + 1) * (size / smaller)
    pixels = np.arange(size)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    covered = (high - low).clip(0)
    shares: Floats = (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
