"""Features as their principal components: a linear map that a file can repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

try:
    from sklearn.decomposition import PCA
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

#: Most components: 512 tell classes apart no better.
COMPONENTS: Final = 256
#: Softens the root about zero, where it would enlarge rounding without end.
SOFT: Final = 0.01
_LEAST: Final = 1e-3


@dataclass(frozen=True)
class Projection:
    """A softened signed root of each number, then a linear map.

    The root is ``x / sqrt(|x| + SOFT)``: a few strong features then outweigh the others less
    (F. Perronnin et al., "Improving the Fisher kernel", ECCV 2010).

    Args:
        weight: ``float32[K, D]``
        bias: ``float32[K]``
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def fit(
        cls, features: NDArray[np.float32], seed: int, blocks: Sequence[int] | None = None
    ) -> Projection:
        """Standardise features, and keep the components that vary most.

        Args:
            features: ``float32[N, D]``
            seed: Of the randomised solver.
            blocks: How many of the D belong together, in order: each block counts as much as the
                others, however wide it is (default: one block).
        """
        rooted = _rooted(features)
        mean = rooted.mean(axis=0, dtype=np.float64)
        sizes = np.array(blocks or [features.shape[1]])
        deviation = rooted.std(axis=0, dtype=np.float64) + _LEAST
        deviation *= np.repeat(np.sqrt(sizes), sizes)
        standard = rooted - mean.astype(np.float32)
        standard /= deviation.astype(np.float32)
        components = min(COMPONENTS, max(1, len(features) - 1), features.shape[1])
        solver = "full" if min(features.shape) <= 2 * components else "randomized"
        pca = PCA(components, svd_solver=solver, random_state=seed, iterated_power=2).fit(standard)
        # The strongest component varies by about 1, so that rounding stays small beside it.
        scale = float(np.sqrt(pca.explained_variance_[0])) or 1.0
        weight = pca.components_.astype(np.float64) / deviation / scale
        bias = -(weight @ mean) - pca.components_ @ pca.mean_.astype(np.float64) / scale
        return cls(weight.astype(np.float32), bias.astype(np.float32))

    def transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the components of rows of features, ``float32[N, K]``."""
        projected: NDArray[np.float32] = _rooted(features) @ self.weight.T + self.bias
        return projected


def _rooted(features: NDArray[np.float32]) -> NDArray[np.float32]:
    root = np.sqrt(np.abs(features) + np.float32(SOFT))
    return np.asarray(features / root, np.float32)
