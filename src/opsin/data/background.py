"""An image's background, matched to the training images'.

Fashion-MNIST and the digits are white on black; a photograph of a boot on a table is dark on
white. A network that never saw a light background answers it with confident nonsense, which is
the commonest disappointment of everyone who follows a tutorial to its end.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from opsin.core.metadata import Background, Preparation
from opsin.data.blank_images import has_no_contrast
from opsin.data.resize import filled, placement, to_pixels

# A border between these is neither dark nor light: nothing is done to such an image.
_DARK, _LIGHT = 96, 160
# Training images must agree this far before an input on the other side is taken for inverted.
_AGREEMENT = 0.8
# A subject that fills less is a speck: a square that large would be work for nothing.
_LEAST_FILL = 0.2
# The longest side of a square; pixels of the largest that is made as a whole, and of a band.
_LONGEST = 16_384
_SQUARE = 1 << 24
_BAND = 1 << 20


def border_of(image: Image.Image) -> tuple[int, ...]:
    """Return the median colour of the outermost pixels, one number a channel."""
    width, height = image.size
    lines = [(0, 0, width, 1), (0, height - 1, width, height)]
    if height > 2:
        lines += [(0, 1, 1, height - 1), (width - 1, 1, width, height - 1)]
    channels = len(image.getbands())
    edge = np.concatenate([np.asarray(image.crop(box)).reshape(-1, channels) for box in lines])
    return tuple(int(value) for value in np.median(edge, axis=0))


def measure_background(images: NDArray[np.uint8]) -> Background | None:
    """Find the usual border brightness of ``images``, ``uint8[N, H, W, C]``."""
    edges = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    levels = np.median(np.concatenate(edges, axis=1).mean(axis=2), axis=1)
    level = float(np.median(levels))
    if _DARK <= level <= _LIGHT:
        return None
    share = float(np.mean(levels < _DARK) if level < _DARK else np.mean(levels > _LIGHT))
    if share < _AGREEMENT:
        return None
    height, width = images.shape[1:3]
    fills, contrasts = [], []
    for image in images:
        difference = _difference(image, (round(level),) * image.shape[2])
        box = _subject(difference)
        if box is not None:
            fills.append(max((box[2] - box[0]) / width, (box[3] - box[1]) / height))
            contrasts.append(_strongest(difference, box))
    if not fills:
        return None
    return Background(
        level=round(level),
        share=round(share, 4),
        fill=round(float(np.median(fills)), 4),
        contrast=round(float(np.median(contrasts)), 1),
    )


def lies_on_other_side(image: Image.Image, background: Background) -> bool:
    """Tell whether an image's border is as light as the training images' were dark, or opposite."""
    level = float(np.mean(border_of(image)))
    return level > _LIGHT if background.level < _DARK else level < _DARK


def match_background(
    image: Image.Image, preparation: Preparation
) -> tuple[NDArray[np.uint8], str] | None:
    """Invert, cut out and square an image whose background lies on the other side."""
    background = preparation.background
    if background is None or not lies_on_other_side(image, background):
        return None
    was, now = ("light", "dark") if background.level < _DARK else ("dark", "light")
    note = f"{was} background turned {now}, as in training"
    # Smaller, where its square would have sides that no network asks for.
    share = _LONGEST * max(background.fill, _LEAST_FILL) / max(image.size)
    if share < 1:
        size = (max(1, int(image.width * share)), max(1, int(image.height * share)))
        image = image.resize(size, Image.Resampling.BOX)
    # How much each pixel differs from the background it lies on, which is all that stays.
    floor = border_of(image)
    difference = np.empty((image.height, image.width), np.uint8)
    for top, bottom in _bands(image.width, image.height):
        band = np.asarray(image.crop((0, top, image.width, bottom)))
        difference[top:bottom] = _difference(band.reshape(*band.shape[:2], -1), floor)
    box = _subject(difference)
    if box is None:
        inverted = to_pixels(ImageOps.invert(image), preparation)
        # Without contrast it is all background, and could as well be all subject.
        return None if has_no_contrast(inverted) else (inverted, note)
    away = np.arange(256, dtype=np.float32)[:, None] - np.array(floor, np.float32)
    away *= -background.contrast / _strongest(difference, box)
    levels = np.clip(background.level + away, 0, 255).astype(np.uint8)
    return _squared(image, box, levels, preparation, background), note


def _bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield the first row and the end of each band of at most this many pixels."""
    step = max(1, _BAND // width)
    for top in range(0, height, step):
        yield top, min(top + step, height)


def _difference(pixels: NDArray[np.uint8], floor: tuple[int, ...]) -> NDArray[np.int16]:
    """Return each pixel's largest difference from the background, ``int16[H, W]``."""
    # Channel by channel: NumPy is slow along an axis as short as theirs.
    away = (np.abs(pixels[..., place].astype(np.int16) - own) for place, own in enumerate(floor))
    return functools.reduce(np.maximum, away)


def _subject(difference: NDArray[Any]) -> tuple[int, int, int, int] | None:
    """Find the box (left, top, right, bottom) around what stands out from the background."""
    threshold = max(24.0, 0.2 * float(difference.max()))
    standing = difference > threshold
    # A row or column counts when more than a speck of dust stands in it.
    rows = np.flatnonzero(standing.mean(axis=1) > 0.01)
    columns = np.flatnonzero(standing.mean(axis=0) > 0.01)
    if not (rows.size and columns.size):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _strongest(difference: NDArray[Any], box: tuple[int, int, int, int]) -> float:
    """Return the contrast of the strongest twentieth of the subject's pixels."""
    left, top, right, bottom = box
    return float(np.percentile(difference[top:bottom, left:right], 95)) or 1.0


def _squared(
    image: Image.Image,
    box: tuple[int, int, int, int],
    levels: NDArray[np.uint8],
    preparation: Preparation,
    background: Background,
) -> NDArray[np.uint8]:
    """Cut the box out as a square that it fills as far as in training, and resize that."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    side = max(round(max(width, height) / max(background.fill, _LEAST_FILL)), width, height)
    mode = "L" if preparation.channels == 1 else "RGB"
    inner, (first, above, last, below) = placement(side, side, preparation)
    empty = (background.level,) * preparation.channels
    table = levels.T.ravel().tolist()
    column, row = (side - width) // 2, (side - height) // 2

    def band(begin: int, end: int) -> Image.Image:
        """Return some of the square's rows."""
        rows = Image.new(mode, (side, end - begin), empty)
        within = max(begin - row, 0), min(end - row, height)
        if within[0] < within[1]:
            cut = image.crop((left, top + within[0], right, top + within[1])).point(table)
            rows.paste(cut.convert(mode), (column, row + within[0] - begin))
        return rows

    if side * side <= _SQUARE:
        small = band(0, side).resize(inner, Image.Resampling.BILINEAR, (first, above, last, below))
    else:
        narrow = Image.new(mode, (inner[0], side), empty)
        for begin, end in _bands(side, height):
            size, part = (inner[0], end - begin), (first, 0, last, end - begin)
            rows = band(row + begin, row + end).resize(size, Image.Resampling.BILINEAR, part)
            narrow.paste(rows, (0, row + begin))
        small = narrow.resize(inner, Image.Resampling.BILINEAR, (0, above, inner[0], below))
    pixels = np.asarray(small, np.uint8).reshape(small.height, small.width, -1)
    whole = inner == (preparation.width, preparation.height)
    return pixels if whole else filled(pixels, preparation)
