"""Short names for array types."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
#: Digests, and codes of parts.
Bytes = NDArray[np.uint8]
#: Prepared images, ``uint8[N, H, W, C]``, or one of them.
Pixels = NDArray[np.uint8]
