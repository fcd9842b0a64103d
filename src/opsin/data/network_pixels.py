"""Upright images become the network's pixels: resized, their background matched."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from opsin.core.arrays import Pixels
from opsin.core.metadata import Background, Preparation

NO_CONTRAST: Final = "nothing to recognise: the image has no contrast"
#: The end of the note on an image whose background was turned.
INVERTED: Final = ", as in training"
# Noise of a sensor or of JPEG, in levels of 256.
_TOLERANCE: Final = 8
# An image with a border between these is left as it is; share of training images on one side from
# which on an input on the other is inverted.
_DARK, _LIGHT, _AGREEMENT = 96, 160, 0.8
# A subject that fills less is a speck; the longest side of a square.
_LEAST_FILL, _LONGEST = 0.2, 4096


@dataclass(frozen=True)
class Upright:
    """An image that stands upright, decoded whole or at a fraction of its size."""

    image: Image.Image
    width: int
    height: int
    eighths: int = 8
    left: float = 0
    top: float = 0
    note: str | None = None
    depth: int = 0

    @classmethod
    def whole(cls, image: Image.Image, note: str | None = None, depth: int = 0) -> Upright:
        """Wrap an image that was decoded whole."""
        return cls(image, image.width, image.height, note=note, depth=depth)


def to_pixels(upright: Upright | Image.Image, preparation: Preparation) -> Pixels:
    """Resize an upright image and convert it to grey or colour."""
    if isinstance(upright, Image.Image):
        upright = Upright.whole(upright)
    image, mode = upright.image, "L" if preparation.channels == 1 else "RGB"
    if image.mode == "RGB" and mode == "L":  # convert always copies
        image = image.convert(mode)
    size = (preparation.width, preparation.height)
    if upright.eighths < 8 or image.size != size:
        inner, box = placement(upright.width, upright.height, preparation)
        left, top, right, bottom = (side * upright.eighths / 8 for side in box)
        x, y = upright.left, upright.top
        within = (x + left, y + top, x + right, y + bottom)
        image = image.resize(inner, Image.Resampling.BILINEAR, within)
    if image.mode != mode:  # grey to colour after resizing takes less memory
        image = image.convert(mode)
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
    if image.size == size:
        return pixels
    # Centred on a canvas of its border's colour.
    edge = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    middle = len(edge) // 2
    line = np.tile(np.partition(edge, middle, axis=0)[middle], preparation.width)
    whole = np.empty((preparation.height, preparation.width, pixels.shape[2]), np.uint8)
    # By line: filling three bytes at a time would take as long as reading the file.
    whole.reshape(preparation.height, -1)[:] = line
    top = (whole.shape[0] - pixels.shape[0]) // 2
    left = (whole.shape[1] - pixels.shape[1]) // 2
    whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return whole


def placement(
    width: int, height: int, preparation: Preparation
) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """Return the target size and the source box of an image."""
    wide, high = preparation.width, preparation.height
    everything = (0.0, 0.0, float(width), float(height))
    match preparation.resize:
        case "fit":
            scale = min(wide / width, high / height)
            # At least one pixel, for extreme aspect ratios.
            return (max(1, round(width * scale)), max(1, round(height * scale))), everything
        case "fill":
            scale = max(wide / width, high / height)
            left = max(0.0, (width - wide / scale) / 2)
            top = max(0.0, (height - high / scale) / 2)
            return (wide, high), (left, top, width - left, height - top)
        case "squash":
            return (wide, high), everything


def has_no_contrast(pixels: Pixels) -> bool:
    """Tell whether an image ``uint8[H, W, C]`` has no contrast."""
    return all(np.ptp(plane) <= _TOLERANCE for plane in np.moveaxis(pixels, 2, 0))


def border_of(image: Image.Image) -> tuple[int, ...]:
    """Return the median colour of the outermost pixels, one number a channel."""
    width, height = image.size
    lines = [(0, 0, width, 1), (0, height - 1, width, height)]
    if height > 2:
        lines += [(0, 1, 1, height - 1), (width - 1, 1, width, height - 1)]
    channels = len(image.getbands())
    edge = np.concatenate([np.asarray(image.crop(box)).reshape(-1, channels) for box in lines])
    return tuple(int(value) for value in np.median(edge, axis=0))


def measure_background(images: Pixels) -> Background | None:
    """Find the usual border brightness of ``images``, ``uint8[N, H, W, C]``."""
    edges = [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]]
    levels = np.median(np.concatenate(edges, axis=1).mean(axis=2), axis=1)
    level = float(np.median(levels))
    share = float(np.mean(levels < _DARK) if level < _DARK else np.mean(levels > _LIGHT))
    if _DARK <= level <= _LIGHT or share < _AGREEMENT:
        return None
    found = []
    for image in images:
        difference = _difference(image, (round(level),) * image.shape[2])
        if box := _subject(difference):
            fill = max((box[2] - box[0]) / images.shape[2], (box[3] - box[1]) / images.shape[1])
            found.append((fill, _strongest(difference, box)))
    if not found:
        return None
    fill, contrast = map(round, np.median(found, axis=0).tolist(), (4, 1))
    return Background(level=round(level), share=round(share, 4), fill=fill, contrast=contrast)


def lies_on_other_side(image: Image.Image, background: Background) -> bool:
    """Tell whether an image's border is light and the training images' dark, or the reverse."""
    level = float(np.mean(border_of(image)))
    return level > _LIGHT if background.level < _DARK else level < _DARK


def match_background(image: Image.Image, preparation: Preparation) -> tuple[Pixels, str] | None:
    """Invert, cut out and square an image whose background lies on the other side."""
    background = preparation.background
    if background is None or not lies_on_other_side(image, background):
        return None
    was, now = ("light", "dark") if background.level < _DARK else ("dark", "light")
    note = f"{was} background turned {now}{INVERTED}"
    fill = max(background.fill, _LEAST_FILL)
    if (share := _LONGEST * fill / max(image.size)) < 1:
        size = (max(1, int(image.width * share)), max(1, int(image.height * share)))
        image = image.resize(size, Image.Resampling.BOX)
    floor = border_of(image)
    pixels = np.asarray(image)
    # Only each pixel's difference from its background is kept.
    difference = _difference(pixels.reshape(*pixels.shape[:2], -1), floor)
    box = _subject(difference)
    if box is None:
        inverted = to_pixels(ImageOps.invert(image), preparation)
        # Without contrast, subject and background cannot be told apart.
        return None if has_no_contrast(inverted) else (inverted, note)
    away = np.arange(256, dtype=np.float32)[:, None] - np.array(floor, np.float32)
    away *= -background.contrast / _strongest(difference, box)
    levels = np.clip(background.level + away, 0, 255).astype(np.uint8).T.ravel().tolist()
    # The subject in a square that it fills as far as in training.
    mode = "L" if preparation.channels == 1 else "RGB"
    subject = image.crop(box).point(levels).convert(mode)
    longest = max(subject.size)
    side = max(round(longest / fill), longest)
    square = Image.new(mode, (side, side), (background.level,) * preparation.channels)
    square.paste(subject, ((side - subject.width) // 2, (side - subject.height) // 2))
    return to_pixels(square, preparation), note


def _difference(pixels: Pixels, floor: tuple[int, ...]) -> NDArray[np.int16]:
    # Each pixel's largest, channel by channel: NumPy is slow along an axis as short as theirs.
    away = (np.abs(pixels[..., channel].astype(np.int16) - c) for channel, c in enumerate(floor))
    return functools.reduce(np.maximum, away)


def _subject(difference: NDArray[np.int16]) -> tuple[int, int, int, int] | None:
    """The box (left, top, right, bottom) around the subject."""
    standing = difference > max(24.0, 0.2 * float(difference.max()))
    # A row or column counts when more than a speck of dust stands in it.
    rows = np.flatnonzero(standing.mean(axis=1) > 0.01)
    columns = np.flatnonzero(standing.mean(axis=0) > 0.01)
    if not (rows.size and columns.size):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _strongest(difference: NDArray[np.int16], box: tuple[int, int, int, int]) -> float:
    # Of a twentieth of the subject's pixels, as NumPy's percentile: levels are few, and counted.
    left, top, right, bottom = box
    levels = np.bincount(difference[top:bottom, left:right].ravel()).cumsum()
    share, place = np.modf(0.95 * (levels[-1] - 1))
    ends = np.searchsorted(levels, (place, place + 1), side="right")
    return float(np.quantile(ends, share)) or 1.0
