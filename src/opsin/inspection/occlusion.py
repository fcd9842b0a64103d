"""What hiding parts of an image changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.events import SILENT, Watcher
from opsin.core.stored_json import JsonObject

#: Prepared images ``uint8[N, H, W, C]`` to probabilities ``float32[N, K]``.
Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

# The patch is this share of the smaller side, so that 28 pixels give 4 and 224 give 32.
_PATCH: Final = 7
# Places of the patch along a side, at most.
_PLACES: Final = 40
# Share of the side, or of the image, of which hiding is no longer a part of the image.
_MOST: Final = 0.6
# Sizes of patches that are tried differ by this share of the side.
_FINENESS: Final = 28
# Places that are tried for each size: the most promising ones; fewer where each costs more.
_TRIED: Final = 64
_TRIED_LARGE: Final = 24
_LARGE: Final = 64 * 64
# Pixels of a batch.
_PIXELS: Final = 2_000_000


@dataclass(frozen=True)
class Counterfactual:
    """A part of the image without which the answer is another."""

    hidden: NDArray[np.bool_]  # [H, W]
    box: tuple[int, int, int, int] | None  # top, left, bottom, right where it is one square patch
    pixels: NDArray[np.uint8]  # the image without it, [H, W, C]
    before: int  # the answer to the whole image, a place among the classes
    before_probability: float
    after: int  # the answer without that part
    after_probability: float

    @property
    def share(self) -> float:
        """How much of the image is hidden, 0 to 1."""
        return float(self.hidden.mean())

    def to_json(self) -> JsonObject:
        """Plain data, the pixels left out."""
        return {
            "box": None if self.box is None else list(self.box),
            "share": self.share,
            "before": self.before,
            "before_probability": self.before_probability,
            "after": self.after,
            "after_probability": self.after_probability,
        }


def answers_without(
    answer: Answer,
    pixels: NDArray[np.uint8],
    hidden: NDArray[np.bool_],
    fill: NDArray[np.uint8],
) -> NDArray[np.float32]:
    """The answers, ``float32[M, K]``, to an image with parts of it hidden, ``bool[M, H, W]``."""
    size = max(8, _PIXELS // (pixels.shape[0] * pixels.shape[1]))
    parts = []
    for start in range(0, len(hidden), size):
        masks = hidden[start : start + size, :, :, None]
        parts.append(answer(np.where(masks, fill, pixels[None])))
    return np.concatenate(parts)


def occlusion_map(
    answer: Answer,
    pixels: NDArray[np.uint8],
    target: int,
    fill: NDArray[np.uint8],
    *,
    watcher: Watcher = SILENT,
) -> NDArray[np.float32]:
    """By how much the probability of a class falls when each part is hidden, ``float32[H, W]``.

    M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.
    A square of a seventh of the smaller side moves in steps of half its own side; each pixel gets
    the mean over the squares that hid it, negative where hiding helps the class. That is 169 images
    for square ones of any size. ``fill`` is what hidden pixels become, ``uint8[C]``.
    """
    height, width, _ = pixels.shape
    side = max(1, round(min(height, width) / _PATCH))
    # Of an image that is much longer than wide, the patches reach from one place to the next.
    tall, wide = (max(side, -(-length // _PLACES)) for length in (height, width))
    boxes = [
        (top, left, top + tall, left + wide)
        for top in _starts(height, tall, max(1, side // 2))
        for left in _starts(width, wide, max(1, side // 2))
    ]
    hidden = _masks(boxes, height, width)
    watcher.begin("Hide", len(boxes), "patches")
    whole = answers_without(answer, pixels, np.zeros((1, height, width), bool), fill)[0, target]
    sums, times = np.zeros((height, width)), np.zeros((height, width))
    step = max(32, _PIXELS // (height * width))
    for start in range(0, len(boxes), step):
        part = hidden[start : start + step]
        fall = whole - answers_without(answer, pixels, part, fill)[:, target]
        sums += np.einsum("n,nhw->hw", fall.astype(np.float64), part)
        times += part.sum(axis=0)
        watcher.advance(min(start + step, len(boxes)))
    watcher.end()
    heat: NDArray[np.float32] = (sums / np.maximum(times, 1)).astype(np.float32)
    return heat


def counterfactual(
    answer: Answer,
    pixels: NDArray[np.uint8],
    heat: NDArray[np.float32],
    fill: NDArray[np.uint8],
) -> Counterfactual | None:
    """The smallest part found whose hiding changes the answer; ``None``: there is none."""
    height, width, _ = pixels.shape
    whole = answers_without(answer, pixels, np.zeros((1, height, width), bool), fill)[0]
    before = int(whole.argmax())

    def found(
        hidden: NDArray[np.bool_], box: tuple[int, int, int, int] | None, row: NDArray[np.float32]
    ) -> Counterfactual:
        after = int(row.argmax())
        image = np.where(hidden[:, :, None], fill, pixels)
        return Counterfactual(
            hidden, box, image, before, float(whole[before]), after, float(row[after])
        )

    smaller = min(height, width)
    step = max(1, round(smaller / _FINENESS))
    tried = _TRIED if height * width <= _LARGE else _TRIED_LARGE
    for side in range(step, max(step, int(_MOST * smaller)) + 1, step):
        boxes = _promising(heat, side, tried)
        masks = _masks(boxes, height, width)
        rows = answers_without(answer, pixels, masks, fill)
        changed = np.flatnonzero(rows.argmax(axis=1) != before)
        if len(changed):
            # Of several of one size, the one that is surest of its new answer.
            best = changed[rows[changed].max(axis=1).argmax()]
            return found(masks[best], boxes[best], rows[best])
    masks = _growing(heat)
    if len(masks):
        rows = answers_without(answer, pixels, masks, fill)
        changed = np.flatnonzero(rows.argmax(axis=1) != before)
        if len(changed):
            return found(masks[changed[0]], None, rows[changed[0]])
    return None


def _starts(length: int, side: int, step: int) -> list[int]:
    """Where a patch begins along a side, the last one flush with the end."""
    count = min(_PLACES, -(-(length - side) // step) + 1)
    return sorted({round(place) for place in np.linspace(0, length - side, count)})


def _masks(boxes: list[tuple[int, int, int, int]], height: int, width: int) -> NDArray[np.bool_]:
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def _promising(heat: NDArray[np.float32], side: int, count: int) -> list[tuple[int, int, int, int]]:
    """The square patches of a size over which the map adds up to most."""
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


def _growing(heat: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Ever larger unions of the patches that matter most, up to the most allowed."""
    height, width = heat.shape
    side = max(1, round(min(height, width) / _PATCH))
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
