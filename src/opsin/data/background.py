"""A picture's background, matched to the training pictures'.

Fashion-MNIST and the digits are white on black; a photograph of a boot on a table is dark on
white. A network that never saw a light background answers it with confident nonsense, which is
the commonest disappointment of everyone who follows a tutorial to its end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from opsin.metadata import Background

# A border between these is neither dark nor light: nothing is done to such a picture.
_DARK, _LIGHT = 96, 160
# Training pictures must agree this far before an input on the other side is taken for inverted.
_AGREEMENT = 0.8
# A subject that fills less is a speck: a square that large would be memory for nothing.
_LEAST_FILL = 0.2


def border_of(picture: Image.Image) -> tuple[int, ...]:
    """Return the median colour of the outermost pixels, one number a channel.

    Example:
        >>> border_of(Image.new("RGB", (5, 4), (10, 20, 30)))
        (10, 20, 30)
    """
    pixels = np.asarray(picture)
    edge = _border(pixels.reshape(1, *pixels.shape[:2], -1))[0]
    return tuple(int(value) for value in np.median(edge, axis=0))


def measure_background(images: NDArray[np.uint8]) -> Background | None:
    """Find the usual border brightness of ``images``, ``uint8[N, H, W, C]``.

    Returns:
        ``None`` where the pictures disagree, as photographs do.
    """
    levels = np.median(_border(images).mean(axis=2), axis=1)
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


def match_background(
    picture: Image.Image, background: Background | None
) -> tuple[Image.Image, str | None]:
    """Invert, cut out and square a picture whose background lies on the other side.

    The uneven light of the background is taken off, the subject is cut out as a square that it
    fills as the training pictures' subjects fill theirs, and its contrast is brought to theirs:
    what Fashion-MNIST's makers did to their photographs (arXiv:1708.07747, section 2).

    Args:
        picture: An upright picture, mode ``L`` or ``RGB``.
        background: What `measure_background` found; ``None`` leaves every picture as it is.

    Returns:
        The picture, and a sentence that says what was done (``None``: nothing).
    """
    if background is None:
        return picture, None
    level = float(np.mean(border_of(picture)))
    dark = background.level < _DARK
    if not (level > _LIGHT if dark else level < _DARK):
        return picture, None
    pixels = np.asarray(picture, np.uint8)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    # How much each pixel differs from the background it lies on, which is all that stays.
    floor = border_of(picture)
    difference = _difference(pixels, floor)
    box = _subject(difference)
    if box is None:
        return ImageOps.invert(picture), _said(dark=dark)
    away = pixels.astype(np.float32) - np.array(floor, np.float32)
    away *= -background.contrast / _strongest(difference, box)
    matched = np.clip(background.level + away, 0, 255).astype(np.uint8)
    squared = _squared(matched, box, background)
    return Image.fromarray(squared[:, :, 0] if squared.shape[2] == 1 else squared), _said(dark=dark)


def _said(*, dark: bool) -> str:
    was, now = ("light", "dark") if dark else ("dark", "light")
    return f"{was} background turned {now}, as in training"


def _difference(pixels: NDArray[np.uint8], floor: tuple[int, ...]) -> NDArray[np.int16]:
    """Return each pixel's largest difference from the background, ``int16[H, W]``."""
    away = np.abs(pixels.astype(np.int16) - np.array(floor, np.int16))
    largest: NDArray[np.int16] = away.max(axis=2)
    return largest


def _subject(difference: NDArray[np.int16]) -> tuple[int, int, int, int] | None:
    """Find the box (left, top, right, bottom) around what stands out from the background."""
    threshold = max(24.0, 0.2 * float(difference.max()))
    standing = difference > threshold
    # A row or column counts when more than a speck of dust stands in it.
    rows = np.flatnonzero(standing.mean(axis=1) > 0.01)
    columns = np.flatnonzero(standing.mean(axis=0) > 0.01)
    if not (rows.size and columns.size):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _strongest(difference: NDArray[np.int16], box: tuple[int, int, int, int]) -> float:
    """Return the contrast of the strongest twentieth of the subject's pixels."""
    left, top, right, bottom = box
    return float(np.percentile(difference[top:bottom, left:right], 95)) or 1.0


def _squared(
    pixels: NDArray[np.uint8], box: tuple[int, int, int, int], background: Background
) -> NDArray[np.uint8]:
    """Cut the box out as a square that it fills as far as in training."""
    left, top, right, bottom = box
    cut = pixels[top:bottom, left:right]
    height, width, channels = cut.shape
    side = round(max(height, width) / max(background.fill, _LEAST_FILL))
    square = np.full((side, side, channels), background.level, np.uint8)
    row, column = (side - height) // 2, (side - width) // 2
    square[row : row + height, column : column + width] = cut
    return square


def _border(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the outermost pixels: ``uint8[N, pixels, C]``."""
    return np.concatenate(
        [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], axis=1
    )
