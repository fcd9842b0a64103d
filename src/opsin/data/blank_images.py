"""Images with nothing to recognise: a classifier answers these too, and the answer means nothing.

They are told by the pixels that the network sees: none of 1,797 digits, 70,000 of Fashion-MNIST,
2,527 of TrashNet and 2,062 hands is taken for one (docs/reference/images.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_CONTRAST: Final = "nothing to recognise: the image has no contrast"

# Levels of 256 by which pixels of one colour may differ: what a sensor or JPEG adds.
_TOLERANCE: Final = 8


def has_no_contrast(pixels: NDArray[np.uint8]) -> bool:
    """Tell an image without contrast, ``uint8[H, W, C]``."""
    planes = np.moveaxis(pixels, 2, 0)
    return all(int(plane.max()) - int(plane.min()) <= _TOLERANCE for plane in planes)
