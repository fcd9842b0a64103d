"""A picture's background, matched to the training pictures'.

Fashion-MNIST and the digits are white on black; a photograph of a boot on a table is dark on
white. A network that never saw a light background answers it with confident nonsense, which is
the commonest disappointment of everyone who follows a tutorial to its end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

from opsin.metadata import Background

# A border between these is neither dark nor light: nothing is done to such a picture.
_DARK, _LIGHT = 96, 160
# Training pictures must agree this far before an input on the other side is taken for inverted.
_AGREEMENT = 0.8


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
    return Background(level=round(level), share=round(share, 4))


def match_background(
    picture: Image.Image, background: Background | None
) -> tuple[Image.Image, str | None]:
    """Invert and square a picture whose background lies on the other side.

    The picture is inverted, the uneven light of its background is taken off, and the subject is
    cut out with an even margin as a square, since the training pictures of such collections
    are filled by their subject.

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
    inverted = ImageOps.invert(picture.convert("RGB"))
    floor = border_of(inverted)
    if dark:
        # What is left of a lit table after inversion is a grey veil: take it off.
        veil = Image.new("RGB", inverted.size, floor)
        inverted = ImageChops.subtract(inverted, veil)
        floor = (0, 0, 0)
    squared = _squared(inverted, floor)
    was, now = ("light", "dark") if dark else ("dark", "light")
    return squared, f"{was} background turned {now}, as in training"


def _squared(picture: Image.Image, floor: tuple[int, ...]) -> Image.Image:
    """Cut the subject out as a square, a fourteenth of its side free around it."""
    difference = np.abs(np.asarray(picture, np.int16) - np.array(floor, np.int16)).max(axis=2)
    subject = difference > max(24.0, 0.15 * float(difference.max()))
    # A row or column counts when more than a speck of dust stands in it.
    rows = np.flatnonzero(subject.mean(axis=1) > 0.01)
    columns = np.flatnonzero(subject.mean(axis=0) > 0.01)
    if not (rows.size and columns.size):
        return picture
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    cut = picture.crop(box)
    side = round(max(cut.size) * 15 / 14)
    square = Image.new("RGB", (side, side), floor)
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    return square


def _border(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the outermost pixels: ``uint8[N, pixels, C]``."""
    return np.concatenate(
        [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], axis=1
    )
