"""Features as a file compares them: roots of length 1, in few directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

try:
    from scipy.linalg import eigh
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

#: Most directions: more tell classes apart no better.
COMPONENTS: Final = 512
#: Softens the root about zero, where it would enlarge rounding without end.
SOFT: Final = 0.01
#: Added to a squared length, which may be 0.
LEAST: Final = 1e-6
#: What is left of a squared length counts as this at least: less is rounding.
REST: Final = 1e-4
# Images that directions are found in.
_SHOWN: Final = 3_000
# Squared lengths below this share of the largest are rounding.
_ROUNDING: Final = 1e-7


def rooted(features: NDArray[np.float32], blocks: Sequence[int]) -> NDArray[np.float32]:
    """Return the signed roots of features, each block of them scaled to the same length.

    A block is what a network says at one depth. With roots of length 1, the product of two images
    is the Bhattacharyya coefficient of their activations (Hellinger's kernel): a few strong
    features outweigh the others less (F. Perronnin et al., "Improving the Fisher kernel", ECCV
    2010), and nothing about the scale has to be learnt from the images.
    """
    roots = features / np.sqrt(np.abs(features) + np.float32(SOFT))
    start = 0
    for size in blocks:
        block = roots[:, start : start + size]
        squares = np.square(block).sum(axis=1, keepdims=True) + np.float32(LEAST)
        block /= np.sqrt(squares * np.float32(len(blocks)))
        start += size
    return np.asarray(roots, np.float32)


@dataclass(frozen=True)
class Projection:
    """The roots of features (`rooted`) as few numbers, which keep their length.

    Args:
        weight: ``float32[K, D]``, rows of length 1 at right angles.
        blocks: How many of the D belong together, in order.
    """

    weight: NDArray[np.float32]
    blocks: tuple[int, ...]

    @classmethod
    def fit(cls, roots: NDArray[np.float32], blocks: Sequence[int]) -> Projection:
        """Keep the directions that images lie in most: of up to 512 images, all of them."""
        places = np.linspace(0, len(roots) - 1, min(len(roots), _SHOWN)).round().astype(np.int64)
        # Where few are left out of many, single precision finds the directions as well.
        few = len(places) <= 2 * COMPONENTS
        shown: NDArray[Any] = roots[places].astype(np.float64 if few else np.float32)
        last = len(shown) - 1
        first = max(0, len(shown) - min(COMPONENTS, shown.shape[1]))
        # There are far more numbers than images: of the products of images it is quicker.
        squares, vectors = eigh(shown @ shown.T, subset_by_index=[first, last])
        kept = squares > _ROUNDING * float(squares[-1])
        weight = ((vectors[:, kept] / np.sqrt(squares[kept])).T @ shown)[::-1]
        return cls(weight.astype(np.float32), tuple(blocks))

    def transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the points of rows of features, ``float32[N, K + 1]``."""
        return self.of_roots(rooted(features, self.blocks))

    def of_roots(self, roots: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the points of what `rooted` returned, ``float32[N, K + 1]``."""
        points = roots @ self.weight.T
        rest = np.maximum(1 - np.square(points).sum(axis=1, keepdims=True), np.float32(REST))
        return np.asarray(np.concatenate([points, np.sqrt(rest)], axis=1), np.float32)
