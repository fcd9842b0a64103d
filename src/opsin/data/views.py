"""A picture moved a little, and mirrored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Share of the smaller side that a view is moved by, one pixel at least. Measured on validation
# pictures (docs/performance.md): on sides of 28 to 64 pixels one pixel helps, and a fourteenth of
# the side does less or harms.
_SHARE: Final = 1 / 64
# Down and right, in steps. Moves along the diagonals were a little better than straight ones.
_MOVES: Final = ((0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


def views(images: NDArray[np.uint8], *, mirrored: bool) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures as they are, then moved a little four ways, then all of that mirrored.

    What comes into sight repeats the picture's border, as in training. The mean of a classifier's
    answers to the views is a little better than its answer to the picture alone: Krizhevsky et al.,
    "ImageNet classification with deep convolutional neural networks" (NIPS 2012), section 4.1.

    Args:
        images: ``uint8[N, H, W, C]``
        mirrored: Whether a mirrored picture is still of its class, and was trained with.

    Yields:
        ``uint8[N, H, W, C]``, the first of them the pictures themselves.

    Example:
        >>> images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
        >>> len(list(views(images, mirrored=False))), len(list(views(images, mirrored=True)))
        (5, 10)
    """
    height, width = images.shape[1:3]
    step = max(1, round(_SHARE * min(height, width)))
    for seen in (images, images[:, :, ::-1]) if mirrored else (images,):
        for down, right in _MOVES:
            if not (down or right):
                yield seen
                continue
            rows = np.clip(np.arange(height) - step * down, 0, height - 1)
            columns = np.clip(np.arange(width) - step * right, 0, width - 1)
            yield seen[:, rows[:, None], columns]
