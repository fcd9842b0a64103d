"""Images that look unlike the rest: dark, blurred, empty or grey."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import THREADS, Images

#: Rows with a note each, the worst first.
Odd = list[tuple[int, str]]

_BLOCK_PIXELS: Final = 1_000_000
# A trait that more images than this share is the collection's nature.
_RARE: Final = 0.05
# Robust deviations (1.4826 times the median of absolute deviations) that make an image odd.
_FAR: Final = 5.0


@dataclass(frozen=True)
class QualityMeasures:
    """What the prepared pixels of each image measure, ``float32[N]`` each.

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
    """Measure every image."""
    count, height, width, _ = images.shape
    measured = np.zeros((5, count), np.float32)
    size = max(1, _BLOCK_PIXELS // (height * width))

    def work(start: int) -> int:
        pixels = images[start : start + size]
        measured[:, start : start + len(pixels)] = measures_of(pixels)
        return start + len(pixels)

    watcher.begin("Look", count, "images")
    with ThreadPoolExecutor(THREADS) as pool:
        for done in pool.map(work, range(0, count, size)):
            watcher.advance(done)
    watcher.end()
    return QualityMeasures(*measured)


def measures_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the five `QualityMeasures` of some images, ``float32[5, N]``."""
    count, height, width, channels = pixels.shape
    measured = np.zeros((5, count), np.float32)
    # Plane by plane: along an axis of three, NumPy takes ten times as long.
    planes = [pixels[..., channel] for channel in range(channels)]
    if channels == 3:
        colour = functools.reduce(np.maximum, planes) - functools.reduce(np.minimum, planes)
        measured[4] = colour.reshape(count, -1).max(axis=1)
    # Whole numbers: to count how often each occurs is quicker than to sort them.
    light = planes[0].astype(np.int16)
    for plane in planes[1:]:
        light += plane
    values = np.arange(255 * channels + 1) / channels
    places = light.reshape(count, -1) + len(values) * np.arange(count)[:, None]
    often = np.bincount(places.ravel(), minlength=count * len(values)).reshape(count, -1)
    pixels_each = height * width
    below, last = np.cumsum(often, axis=1), pixels_each - 1
    for number, share in enumerate((0.02, 0.98)):
        measured[number] = values[np.argmax(below > round(share * last), axis=1)]
    mean = often @ values / pixels_each
    apart = (values - mean[:, None]) ** 2
    contrast = measured[2] = np.sqrt((often * apart).sum(axis=1) / pixels_each)
    if min(height, width) > 2:
        edges = light[:, :-2, 1:-1] + light[:, 2:, 1:-1]
        edges += light[:, 1:-1, :-2] + light[:, 1:-1, 2:] - 4 * light[:, 1:-1, 1:-1]
        fine = np.abs(edges).mean(axis=(1, 2), dtype=np.float64) / channels
        measured[3] = fine / np.maximum(contrast, 1)
    return measured


def empty(looks: QualityMeasures) -> Odd:
    """Return images of nearly one colour."""
    return _rare(looks.contrast, looks.contrast < 5, "contrast {:.1f} of 255")


def dark(looks: QualityMeasures) -> Odd:
    """Return images whose brightest parts are dark; empty ones apart."""
    return _rare(looks.high, (looks.high < 60) & (looks.contrast >= 5), "at most {:.0f} of 255")


def bright(looks: QualityMeasures) -> Odd:
    """Return images whose darkest parts are bright; empty ones apart."""
    odd = _rare(-looks.low, (looks.low > 195) & (looks.contrast >= 5), "{:.0f}")
    return [(row, f"at least {looks.low[row]:.0f} of 255") for row, _ in odd]


def blurred(looks: QualityMeasures) -> Odd:
    """Return images with far less fine detail than the others; empty ones apart."""
    plain = np.log(np.maximum(looks.sharpness, 1e-3))
    usual = float(np.median(plain))
    far = (plain < usual - max(0.7, _FAR * _deviation(plain))) & (looks.contrast >= 5)
    odd = _rare(plain, far, "{:.2f}")
    share = np.exp(plain - usual)
    return [(row, f"{share[row]:.0%} of the usual detail") for row, _ in odd]


def odd_shapes(sizes: NDArray[np.int32]) -> Odd:
    """Return images at least twice as long, or as wide, as the others."""
    shape = np.log2(sizes[:, 1] / sizes[:, 0])
    away = np.abs(shape - np.median(shape))
    odd = _rare(-away, away >= 1, "{:.0f}")
    return [(row, f"{sizes[row, 0]:,}×{sizes[row, 1]:,}") for row, _ in odd]


def odd_sizes(sizes: NDArray[np.int32]) -> Odd:
    """Return images with less than a quarter of the usual number of pixels each way."""
    area = np.log2(sizes.astype(np.float64).prod(axis=1))
    odd = _rare(area, area < np.median(area) - 4, "{:.0f}")
    return [(row, f"{sizes[row, 0]:,}×{sizes[row, 1]:,}") for row, _ in odd]


def grey(looks: QualityMeasures) -> Odd:
    """Return grey images of a collection of coloured ones."""
    return [(row, "grey") for row, _ in _rare(looks.colour, looks.colour <= 3, "{:.0f}", most=0.5)]


def coloured(looks: QualityMeasures) -> Odd:
    """Return coloured images of a collection of grey ones."""
    odd = _rare(-looks.colour, looks.colour > 3, "{:.0f}")
    return [(row, "in colour") for row, _ in odd]


def _rare(
    worst_low: NDArray[np.float32], which: NDArray[np.bool_], note: str, *, most: float = _RARE
) -> Odd:
    """Return the chosen rows, the lowest value first; none where they are the common case."""
    rows = np.flatnonzero(which)
    # One of a handful is rare as well.
    if len(rows) > max(1, most * len(which)):
        return []
    rows = rows[np.argsort(worst_low[rows], kind="stable")]
    return [(int(row), note.format(worst_low[row])) for row in rows]


def _deviation(values: NDArray[np.float32]) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
