"""Test-time augmentation: shifted and mirrored views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Share of the smaller side that a view is moved by, one pixel at least. Measured on validation
# images (docs/how-to/predict.md): on sides of 28 to 64 pixels one pixel helps, and a
# fourteenth of the side does less or harms.
_SHARE: Final = 1 / 64
# Below this many pixels a side, one pixel is too much.
_SMALLEST: Final = 28
# Down and right, in steps. Moves along the diagonals were a little better than straight ones.
_MOVES: Final = ((0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


def step_of(height: int, width: int, shift: int) -> int:
    """Return the shift of a view in pixels, possibly 0."""
    side = min(height, width)
    return min(shift, max(1, round(_SHARE * side))) if side >= _SMALLEST else 0


def views(images: NDArray[np.uint8], *, flip: bool, shift: int) -> Iterator[NDArray[np.uint8]]:
    """Yield images as they are, then moved a little four ways, then all of that mirrored."""
    height, width = images.shape[1:3]
    step = step_of(height, width, shift)
    for seen in (images, images[:, :, ::-1]) if flip else (images,):
        for down, right in _MOVES if step else _MOVES[:1]:
            if not (down or right):
                yield seen
                continue
            rows = np.clip(np.arange(height) - step * down, 0, height - 1)
            columns = np.clip(np.arange(width) - step * right, 0, width - 1)
            yield seen[:, rows[:, None], columns]
