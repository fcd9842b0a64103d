"""Images with nothing to recognise: one colour, a smooth gradient, noise.

A classifier answers these too, and its confidence means nothing. They are recognised by the pixels
that the network sees, by bounds that images of something stay away from: none of 1,797 digits,
70,000 of Fashion-MNIST, 2,527 of TrashNet and 2,062 hands is taken for one
(docs/reference/images.md).
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_CONTRAST: Final = "nothing to recognise: the image has no contrast"
GRADIENT: Final = "nothing to recognise: the image is a smooth gradient"
NOISE: Final = "nothing to recognise: the image is noise, no pixel like its neighbours"
_WARNINGS: Final = (NO_CONTRAST, GRADIENT, NOISE)

# Levels of 256 by which pixels of one colour may differ: what a sensor or JPEG adds.
_TOLERANCE: Final = 8
# Of noise, largest correlation of pixels one apart and two apart, in either direction. Shrinking
# makes neighbours alike: Pillow's triangle by a quarter, that and JPEG by up to a half.
_ALIKE: Final = (0.5, 0.2)
# Noise reaches the border: there is at least this share of its variance on each side.
_AT_BORDER: Final = 0.35
# Smaller images have too few pixels to tell.
_LEAST_SIDE: Final = 16


def warning_of(pixels: NDArray[np.uint8]) -> str | None:
    """Say so where an image holds nothing to recognise."""
    if has_no_contrast(pixels):
        return NO_CONTRAST
    if _is_noise(pixels):
        return NOISE
    return GRADIENT if _is_gradient(pixels) else None


def warning_among(notes: tuple[str, ...]) -> str | None:
    """Return what `warning_of` said, where it is among an image's notes."""
    return next((note for note in notes if note in _WARNINGS), None)


def has_no_contrast(pixels: NDArray[np.uint8]) -> bool:
    """Tell an image without contrast, ``uint8[H, W, C]``."""
    planes = np.moveaxis(pixels, 2, 0)
    return all(int(plane.max()) - int(plane.min()) <= _TOLERANCE for plane in planes)


def _is_noise(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether nothing in an image goes on from one pixel to the next, in any channel."""
    if min(pixels.shape[:2]) < _LEAST_SIDE:
        return False
    values = pixels - pixels.mean(axis=(0, 1), dtype=np.float32)
    variance = np.maximum(values.var(axis=(0, 1)), 1e-6)
    sides = (values[0], values[-1], values[:, 0], values[:, -1])
    if any((side.var(axis=0) < _AT_BORDER * variance).any() for side in sides):
        return False
    return all(
        bool(((ahead * behind).mean(axis=(0, 1)) < alike * variance).all())
        for step, alike in enumerate(_ALIKE, start=1)
        for ahead, behind in (
            (values[step:], values[:-step]),
            (values[:, step:], values[:, :-step]),
        )
    )


def _is_gradient(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether polynomials of degree 2 describe all of an image."""
    height, width, channels = pixels.shape
    if min(height, width) < _LEAST_SIDE // 2:
        return False
    # Some of the pixels first: they tell of nearly all images.
    for step in (max(1, min(height, width) // 8), 1):
        some = np.ascontiguousarray(np.moveaxis(pixels[::step, ::step], 2, 0), np.float32)
        basis, inverse = _polynomials(*some.shape[1:])
        values = some.reshape(channels, -1)
        away = values - (values @ inverse) @ basis
        if np.ptp(away, axis=1).max() > 2 * _TOLERANCE:
            return False
    return True


@functools.lru_cache(8)
def _polynomials(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The polynomials' values ``float32[6, H * W]``, and the matrix that fits them."""
    rows, columns = np.meshgrid(
        np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"
    )
    terms = (np.ones_like(rows), rows, columns, rows * columns, rows**2, columns**2)
    basis = np.stack([term.ravel() for term in terms])
    return basis.astype(np.float32), np.linalg.pinv(basis).astype(np.float32)
