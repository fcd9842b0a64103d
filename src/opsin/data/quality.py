"""Outliers among images: dark, blurred, empty or grey."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import THREADS, Images

#: Rows with a note each, the worst first.
Odd = list[tuple[int, str]]

_BLOCK_PIXELS: Final = 1_000_000
# A trait shared by more images is normal for the dataset.
_RARE: Final = 0.05
# Robust standard deviations (1.4826 times the median absolute deviation) that make an outlier.
_FAR: Final = 5.0


class QualityMeasures(NamedTuple):
    """Measures of each image's prepared pixels, ``float32[N]`` each.

    Args:
        low: The 2nd percentile of its brightness, 0 to 255.
        high: The 98th percentile of its brightness.
        contrast: Standard deviation of its brightness.
        sharpness: Mean absolute Laplacian over the contrast: how fine its detail is.
        colour: Largest difference between two channels of any pixel, 0 for grey images.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    contrast: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    colour: NDArray[np.float32]


def measure(images: Images, *, watcher: Watcher = SILENT) -> QualityMeasures:
    """Measure every image of ``uint8[N, H, W, C]``."""
    count, height, width, _ = images.shape
    measured = np.zeros((5, count), np.float32)
    size = max(1, _BLOCK_PIXELS // (height * width))

    def work(start: int) -> int:
        pixels = images[start : start + size]
        measured[:, start : start + len(pixels)] = _measures_of(pixels)
        return start + len(pixels)

    watcher.begin("Look", count, "images")
    with ThreadPoolExecutor(THREADS) as pool:
        for done in pool.map(work, range(0, count, size)):
            watcher.advance(done)
    watcher.end()
    return QualityMeasures(*measured)


def _measures_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    count, height, width, channels = pixels.shape
    measured = np.zeros((5, count), np.float32)
    # Plane by plane: reducing an axis of three takes NumPy ten times as long.
    planes = [pixels[..., channel] for channel in range(channels)]
    if channels == 3:
        colour = functools.reduce(np.maximum, planes) - functools.reduce(np.minimum, planes)
        measured[4] = colour.reshape(count, -1).max(axis=1)
    light = planes[0].astype(np.int16)
    for plane in planes[1:]:
        light += plane
    flat = light.reshape(count, -1)
    low, high = (round(share * (height * width - 1)) for share in (0.02, 0.98))
    ordered = np.partition(flat, (low, high), axis=1)
    measured[0], measured[1] = ordered[:, low] / channels, ordered[:, high] / channels
    contrast = measured[2] = flat.std(axis=1) / channels
    if min(height, width) > 2:
        edges = light[:, :-2, 1:-1] + light[:, 2:, 1:-1]
        edges += light[:, 1:-1, :-2] + light[:, 1:-1, 2:] - 4 * light[:, 1:-1, 1:-1]
        fine = np.abs(edges).mean(axis=(1, 2), dtype=np.float64) / channels
        measured[3] = fine / np.maximum(contrast, 1)
    return measured


def odd_images(looks: QualityMeasures, sizes: NDArray[np.int32]) -> dict[str, Odd]:
    """Return the outliers by kind; ``sizes`` are original heights and widths."""
    # Nearly one colour: no other kind applies.
    empty = looks.contrast < 5
    detail = np.log(np.maximum(looks.sharpness, 1e-3))
    usual = float(np.median(detail))
    deviation = 1.4826 * float(np.median(np.abs(detail - usual)))
    soft = detail < usual - max(0.7, _FAR * deviation)
    # Twice the usual aspect ratio; a sixteenth of the usual area.
    shape = np.log2(sizes[:, 1] / sizes[:, 0])
    stretched = np.abs(shape - np.median(shape))
    area = np.log2(sizes.astype(np.float64).prod(axis=1))
    low, high, colour = looks.low, looks.high, looks.colour
    return {
        "empty": _rare(looks.contrast, empty, "contrast {:.1f} of 255", looks.contrast),
        "dark": _rare(high, (high < 60) & ~empty, "at most {:.0f} of 255", high),
        "bright": _rare(-low, (low > 195) & ~empty, "at least {:.0f} of 255", low),
        "blurred": _rare(
            detail, soft & ~empty, "{:.0%} of the usual detail", np.exp(detail - usual)
        ),
        "odd-shape": _rare(-stretched, stretched >= 1, "{0[0]:,}×{0[1]:,}", sizes),
        "odd-size": _rare(area, area < np.median(area) - 4, "{0[0]:,}×{0[1]:,}", sizes),
        "grey": _rare(colour, colour <= 3, "grey", colour, most=0.5),
        "coloured": _rare(-colour, colour > 3, "in colour", colour),
    }


def _rare(
    worst_low: NDArray[np.floating],
    which: NDArray[np.bool_],
    note: str,
    shown: NDArray[np.generic],
    *,
    most: float = _RARE,
) -> Odd:
    """Return the chosen rows, the lowest value first; none if they are common."""
    rows = np.flatnonzero(which)
    # A single one is always rare.
    if len(rows) > max(1, most * len(which)):
        return []
    rows = rows[np.argsort(worst_low[rows], kind="stable")]
    return [(int(row), note.format(shown[row])) for row in rows]
