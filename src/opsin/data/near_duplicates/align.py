"""One image laid upon another, and how alike the two are then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.data.near_duplicates.candidates import Drawn
from opsin.data.near_duplicates.thumbnails import Floats, blocks, unit

#: The distance of a near duplicate is at most this share of the usual distance.
RATIO: Final = 0.24
_BLOCK: Final = 512
_STEPS: Final = 4
# Likeness below which a first guess is given up, and above which it needs no improvement.
_HOPE, _ENOUGH = 0.3, 0.98


@dataclass(frozen=True)
class Pairs:
    """Pairs on their way through the checks.

    Args:
        rows: Rows of the asking and of the other image, ``int64[M, 2]``.
        windows: Which part of the asking image the other one shows: height, top, width and left
            as shares, ``float32[M, 4]``.
        mirrored: Whether the asking image has to be mirrored first, ``bool[M]``.
        likeness: Correlation of their detail after alignment, ``float32[M]``.
    """

    rows: NDArray[np.int64]
    windows: Floats
    mirrored: NDArray[np.bool_]
    likeness: Floats = field(default_factory=lambda: np.zeros(0, np.float32))


def verify(grey: NDArray[np.uint8], place: NDArray[np.int64], pairs: Pairs, drawn: Drawn) -> Pairs:
    """Align each pair; keep those more alike than chance explains.

    Args:
        grey: Brightness of images, ``uint8[M, h, w]``.
        place: Where each image of the collection lies in ``grey``, ``int64[N]``.
        pairs: Candidates.
        drawn: What tells how alike images usually are.
    """
    usual = _usual_likeness(grey, place, pairs.rows, drawn)
    likeness, windows = np.zeros(len(usual), np.float32), pairs.windows.copy()
    for block in blocks(len(usual), _BLOCK):
        asking, other = grey[place[pairs.rows[block]]].astype(np.float32).swapaxes(0, 1)
        asking[pairs.mirrored[block]] = asking[pairs.mirrored[block]][:, :, ::-1]
        likeness[block], windows[block] = _align(asking, other, windows[block])
    good = 1 - likeness <= RATIO * (1 - usual)
    return Pairs(pairs.rows[good], windows[good], pairs.mirrored[good], likeness[good])


def _usual_likeness(
    grey: NDArray[np.uint8], place: NDArray[np.int64], pairs: NDArray[np.int64], drawn: Drawn
) -> Floats:
    """Return what each pair's images have in common with others, the larger of the two."""
    others = _detail(grey[place[drawn.rows]].astype(np.float32))
    involved, which = np.unique(pairs, return_inverse=True)
    # Of a small collection most images are drawn, copies too: there the third nearest counts.
    rank = min(1 + round(2 * len(drawn.rows) / len(place)), len(drawn.rows) - 1)
    values = np.zeros((len(involved), rank + 1), np.float32)
    nearest = np.full((len(involved), rank + 1), -1)
    for block in blocks(len(involved), _BLOCK):
        rows = involved[block]
        alike = _detail(grey[place[rows]].astype(np.float32)) @ others.T
        alike = np.where(drawn.strangers(rows), alike, 0)
        places = np.argpartition(-alike, rank, axis=1)[:, : rank + 1]
        top = np.take_along_axis(alike, places, axis=1)
        order = np.argsort(-top, axis=1, kind="stable")
        values[block] = np.take_along_axis(top, order, axis=1)
        nearest[block] = drawn.rows[np.take_along_axis(places, order, axis=1)]
    usual = np.zeros(len(pairs), np.float32)
    for own, partner in ((0, 1), (1, 0)):
        row = which.reshape(-1, 2)[:, own]
        # The partner is no reference: where it was drawn, one more has to be counted.
        met = np.any(nearest[row, :rank] == pairs[:, partner, None], axis=1)
        usual = np.maximum(usual, values[row, np.where(met, rank, max(rank - 1, 0))])
    return usual


def _align(asking: Floats, other: Floats, windows: Floats) -> tuple[Floats, Floats]:
    """Return the likeness of pairs after alignment, ``float32[M]``, and the best windows.

    Args:
        asking: ``float32[M, h, w]``, of which a window becomes the other image.
        other: ``float32[M, h, w]``
        windows: The first guess, ``float32[M, 4]``.
    """
    wanted, soft = _detail(other), _blur(other)
    likeness, best = np.full(len(asking), -1, np.float32), windows.copy()
    left = np.arange(len(asking))
    for step in range(_STEPS + 1):
        cut = _cut(asking[left], windows)
        alike = (_detail(cut) * wanted[left]).sum(axis=1)
        better = alike > likeness[left]
        likeness[left[better]], best[left[better]] = alike[better], windows[better]
        # Already at the first guess, copies show some of their likeness.
        hopeful = (alike > _HOPE + 0.1 * step) & (alike < _ENOUGH)
        if step == _STEPS or not hopeful.any():
            break
        left, windows = left[hopeful], windows[hopeful]
        windows = _improved(_blur(cut[hopeful]), soft[left], windows)
    return likeness, best


def _improved(cut: Floats, other: Floats, windows: Floats) -> Floats:
    """Take a Gauss-Newton step towards the window whose content is the other image."""
    count, height, width = cut.shape
    down = np.gradient(cut, axis=1) * (height / windows[:, 0])[:, None, None]
    across = np.gradient(cut, axis=2) * (width / windows[:, 2])[:, None, None]
    row = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    column = (np.arange(width, dtype=np.float32) + 0.5) / width
    # Unknown: the window's height, top, width and left, the contrast and the brightness.
    slopes = np.stack([down * row, down, across * column, across, cut, np.ones_like(cut)], axis=1)
    slopes = slopes.reshape(count, 6, -1)
    normal = slopes @ slopes.transpose(0, 2, 1)
    scale = np.trace(normal, axis1=1, axis2=2)[:, None, None] / 6
    normal += np.diag(np.array([1e-3] * 4 + [1e-5] * 2, np.float32)) * scale + 1e-6 * np.eye(6)
    solved = np.linalg.solve(normal, slopes @ other.reshape(count, -1, 1))[..., 0]
    contrast = np.where(np.abs(solved[:, 4:5]) < 0.3, 0.3, solved[:, 4:5])
    windows = windows + np.clip(solved[:, :4] / contrast, -0.05, 0.05)
    windows[:, ::2] = windows[:, ::2].clip(0.85, 1.05)
    windows[:, 1::2] = windows[:, 1::2].clip(-0.06, 1.06 - windows[:, ::2])
    return windows.astype(np.float32)


def _cut(images: Floats, windows: Floats) -> Floats:
    """Return a window of each image at the image's own size, interpolated linearly."""
    for axis, first in ((1, 0), (2, 2)):
        size = images.shape[axis]
        centre = (np.arange(size, dtype=np.float32) + 0.5) / size
        place = (windows[:, first, None] * centre + windows[:, first + 1, None]) * size - 0.5
        place = place.clip(0, size - 1)
        low = np.minimum(place.astype(np.int64), size - 2)
        share = place - low
        image = np.arange(len(images))[:, None]
        turned = images if axis == 1 else images.transpose(0, 2, 1)
        share = share[:, :, None]
        turned = turned[image, low] * (1 - share) + turned[image, low + 1] * share
        images = turned if axis == 1 else turned.transpose(0, 2, 1)
    return images


def _detail(images: Floats) -> Floats:
    """Return what lies between coarse shape and noise in the inner part, of length 1."""
    _, height, width = images.shape
    top, left = height // 8, width // 8
    down, across = _blurring(height)[top : height - top], _blurring(width)[left : width - left]
    coarse_down, coarse_across = down @ _blurring(height, 3), across @ _blurring(width, 3)
    band = down @ (images @ across.T) - coarse_down @ (images @ coarse_across.T)
    inner = band.reshape(len(images), -1)
    return unit(inner - inner.mean(axis=1, keepdims=True))


def _blur(images: Floats) -> Floats:
    """Average each pixel with its neighbours by the weights 1 2 1, in both directions."""
    _, height, width = images.shape
    blurred: Floats = _blurring(height) @ (images @ _blurring(width).T)
    return blurred


def _blurring(size: int, times: int = 1) -> Floats:
    """Return the matrix that averages each of ``size`` pixels with its neighbours, by 1 2 1."""
    matrix = np.eye(size) / 2 + np.eye(size, k=1) / 4 + np.eye(size, k=-1) / 4
    matrix[0, 0] = matrix[-1, -1] = 0.75  # the outermost pixels are repeated
    blurring: Floats = np.linalg.matrix_power(matrix, times).astype(np.float32)
    return blurring
