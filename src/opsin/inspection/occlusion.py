"""Effects of hiding parts of an image, and the fill of hidden pixels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from opsin.core.arrays import Bools, Doubles, Floats, Pixels
from opsin.core.metadata import LayerOp

if TYPE_CHECKING:
    from opsin.runtime.classifier import Classifier

#: Prepared images ``uint8[N, H, W, C]`` to probabilities ``float32[N, K]``.
Answer = Callable[[Pixels], Floats]

# The patch is this share of the smaller side, so that 28 pixels give 4 and 224 give 32.
_PATCH: Final = 7
# Places of the patch along a side, at most.
_PLACES: Final = 40
# Largest hidden share of the side, or of the image.
_MOST: Final = 0.6
# Sizes of patches that are tried differ by this share of the side; more where each costs more.
_FINENESS: Final = 28
_FINENESS_LARGE: Final = 14
# Places that are tried for each size: the most promising ones; fewer where each costs more.
_TRIED: Final = 64
_TRIED_LARGE: Final = 16
_LARGE: Final = 64 * 64
# Pixels of a batch, and images of a small one.
_PIXELS: Final = 2_000_000
_FEW: Final = 8


@dataclass(frozen=True)
class Counterfactual:
    """A part of the image whose hiding changes the answer."""

    JSON: ClassVar = "box share before before_probability after after_probability"
    hidden: Bools  # [H, W]
    box: tuple[int, int, int, int] | None  # top, left, bottom, right if it is one square patch
    pixels: Pixels  # the image without it, [H, W, C]
    before: str  # the answer to the whole image
    before_probability: float
    after: str  # the answer without that part
    after_probability: float

    @property
    def share(self) -> float:
        """The hidden share of the image, 0 to 1."""
        return float(self.hidden.mean())


def answers_without(answer: Answer, pixels: Pixels, hidden: Bools, fill: Pixels) -> Floats:
    """The answers, ``float32[M, K]``, to an image with parts of it hidden, ``bool[M, H, W]``."""
    size = max(_FEW, _PIXELS // (pixels.shape[0] * pixels.shape[1]))
    parts = []
    for start in range(0, len(hidden), size):
        masks = hidden[start : start + size, :, :, None]
        parts.append(answer(np.where(masks, fill, pixels[None])))
    return np.concatenate(parts)


def occlusion_map(
    answer: Answer, pixels: Pixels, target: int, fill: Pixels, *, seconds: float = math.inf
) -> Floats:
    """The fall of a class's probability when each part is hidden, ``float32[H, W]``.

    M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.
    A square of a seventh of the smaller side moves in steps of half its own side; each pixel gets
    the mean over the squares that hid it, negative where hiding helps the class. That is 169 images
    for square ones of any size. ``fill`` is what hidden pixels become, ``uint8[C]``.

    Squares side by side, 49 as a rule, come first; after ``seconds`` no others follow. Those where
    the first ones mattered most are the next.
    """
    end = time.monotonic() + seconds
    height, width, _ = pixels.shape
    (tops, tall), (lefts, wide) = _patches(height, width)
    first = [(top, left) for top in _covering(tops, tall) for left in _covering(lefts, wide)]
    others = {(top, left) for top in tops for left in lefts}.difference(first)
    whole = answers_without(answer, pixels, np.zeros((1, height, width), bool), fill)[0, target]
    sums, times = np.zeros((height, width)), np.zeros((height, width))

    def hide(places: Sequence[tuple[int, int]]) -> None:
        hidden = _masks([(top, left, top + tall, left + wide) for top, left in places], *sums.shape)
        fall = whole - answers_without(answer, pixels, hidden, fill)[:, target]
        sums[...] += np.einsum("n,nhw->hw", fall.astype(np.float64), hidden)
        times[...] += hidden.sum(axis=0)

    def matters(place: tuple[int, int]) -> float:
        part = slice(place[0], place[0] + tall), slice(place[1], place[1] + wide)
        return float((sums[part] / np.maximum(times[part], 1)).sum())

    hide(first)
    rest = sorted(sorted(others), key=matters, reverse=True)
    for start in range(0, len(rest), _FEW):
        if time.monotonic() > end:
            break
        hide(rest[start : start + _FEW])
    heat: Floats = (sums / np.maximum(times, 1)).astype(np.float32)
    return heat


def _patches(height: int, width: int) -> list[tuple[list[int], int]]:
    """Starts and length of an occlusion map's patches along each side."""
    side = _side(height, width)
    # On a much longer than wide image, patches are stretched so that none is left out.
    lengths = [(length, max(side, -(-length // _PLACES))) for length in (height, width)]
    return [(_starts(length, long, max(1, side // 2)), long) for length, long in lengths]


def most_occluded(height: int, width: int) -> int:
    """How many images `occlusion_map` takes at most."""
    (tops, _), (lefts, _) = _patches(height, width)
    return 1 + len(tops) * len(lefts)


def _sizes(height: int, width: int) -> tuple[range, int]:
    """The sides of the patches that may change the answer, and how many of each are tried."""
    smaller, large = min(height, width), height * width > _LARGE
    step = max(1, round(smaller / (_FINENESS_LARGE if large else _FINENESS)))
    sides = range(step, max(step, int(_MOST * smaller)) + 1, step)
    return sides, _TRIED_LARGE if large else _TRIED


def most_tried(height: int, width: int) -> int:
    """How many images `counterfactual` takes at most."""
    sides, tried = _sizes(height, width)
    # Each patch of the growing part adds at least half of itself.
    grown = int(2 * _MOST * height * width / _side(height, width) ** 2)
    return 1 + len(sides).bit_length() * tried + grown.bit_length()


def _side(height: int, width: int) -> int:
    return max(1, round(min(height, width) / _PATCH))


def counterfactual(
    answer: Answer, pixels: Pixels, heat: Floats, fill: Pixels, classes: Sequence[str]
) -> Counterfactual | None:
    """The smallest part found whose hiding changes the answer, if there is one.

    Of all sizes the middle one is tried first, then a larger or a smaller one.
    """
    height, width, _ = pixels.shape
    whole = answers_without(answer, pixels, np.zeros((1, height, width), bool), fill)[0]
    before, (sides, tried) = int(whole.argmax()), _sizes(height, width)
    squares = [_promising(heat, side, tried) for side in sides]
    masks = [_masks(boxes, height, width) for boxes in squares]
    for sizes, are_squares in ((masks, True), (_growing(heat)[:, None], False)):
        found, first, end = None, 0, len(sizes)
        while first < end:
            at = (first + end) // 2
            rows = answers_without(answer, pixels, sizes[at], fill)
            changed = np.flatnonzero(rows.argmax(axis=1) != before)
            if not len(changed):
                first = at + 1
                continue
            # Of several squares of one size, the one that is surest of its new answer.
            best = int(changed[rows[changed].max(axis=1).argmax()])
            after, end = int(rows[best].argmax()), at
            found = Counterfactual(
                sizes[at][best],
                squares[at][best] if are_squares else None,
                np.where(sizes[at][best][:, :, None], fill, pixels),
                classes[before],
                float(whole[before]),
                classes[after],
                float(rows[best, after]),
            )
        if found is not None:
            return found
    return None


def _starts(length: int, side: int, step: int) -> list[int]:
    """Starts of patches along a side, the last one flush with the end."""
    count = min(_PLACES, -(-(length - side) // step) + 1)
    return sorted({round(start) for start in np.linspace(0, length - side, count)})


def _covering(starts: Sequence[int], side: int) -> list[int]:
    """The fewest starts whose patches leave no gap."""
    kept = [starts[0]]
    for start, following in pairwise((*starts, math.inf)):
        if following > kept[-1] + side and start > kept[-1]:
            kept.append(int(start))
    return kept


def _masks(boxes: list[tuple[int, int, int, int]], height: int, width: int) -> Bools:
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def _promising(heat: Floats, side: int, count: int) -> list[tuple[int, int, int, int]]:
    """The square patches of a size with the largest sums of the map."""
    height, width = heat.shape
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = heat.astype(np.float64).cumsum(axis=0).cumsum(axis=1)
    step = max(1, side // 4)
    tops, lefts = (np.arange(0, length - side + 1, step) for length in (height, width))
    top, left = (grid.ravel() for grid in np.meshgrid(tops, lefts, indexing="ij"))
    bottom, right = top + side, left + side
    total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    best = np.argsort(-total, kind="stable")[:count]
    return [(int(top[i]), int(left[i]), int(bottom[i]), int(right[i])) for i in best]


def _growing(heat: Floats) -> Bools:
    """Ever larger unions of the patches that matter most, up to the most allowed."""
    height, width = heat.shape
    side = _side(height, width)
    boxes = _promising(heat, side, height * width)
    union = np.zeros((height, width), bool)
    grown = []
    for box in boxes:
        top, left, bottom, right = box
        if union[top:bottom, left:right].mean() > 0.5:
            continue
        union = union.copy()
        union[top:bottom, left:right] = True
        if union.mean() > _MOST:
            break
        grown.append(union)
    return np.array(grown, bool).reshape(-1, height, width)


def training_mean(classifier: Classifier) -> Doubles | None:
    """The mean pixel of the training images, ``float64[C]``; ``None`` if it is unknown."""
    first, prep = next(iter(classifier.metadata.layers), None), classifier.metadata.preparation
    if first is None or first.kind != LayerOp.NORMALISE:
        return None
    ends = np.zeros((2, *prep.shape), np.uint8)
    ends[1] = 255
    try:
        values = classifier.layers(ends, [first.name])[first.name].astype(np.float64)
    except Exception:  # noqa: BLE001  quantized files lack that layer
        return None
    if values.shape != (2, prep.channels, prep.height, prep.width):
        return None
    black, white = values.mean(axis=(2, 3))
    # If black stays 0, the layer only scales: the file does not hold the mean.
    return np.asarray(255 * black / (black - white)) if black.any() else None


def fill_of(pixels: Pixels, mean: Doubles | None) -> Pixels:
    """The fill of hidden pixels, ``uint8[C]``; without a mean, that of the image."""
    colour = pixels.mean(axis=(0, 1)) if mean is None else np.broadcast_to(mean, pixels.shape[2:])
    fill: Pixels = np.clip(np.round(colour), 0, 255).astype(np.uint8)
    return fill
