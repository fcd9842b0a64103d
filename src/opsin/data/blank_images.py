"""Blank images: a classifier's answer to one is meaningless.

The check uses the network's input: none of 1,797 digits, 70,000 of Fashion-MNIST, 2,527 of TrashNet
and 2,062 hands is taken for blank (docs/reference/images.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_CONTRAST: Final = "nothing to recognise: the image has no contrast"

# Noise of a sensor or of JPEG, in levels of 256.
_TOLERANCE: Final = 8


def has_no_contrast(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether an image ``uint8[H, W, C]`` has no contrast."""
    planes = np.moveaxis(pixels, 2, 0)
    return all(int(plane.max()) - int(plane.min()) <= _TOLERANCE for plane in planes)
