"""Least squares with a Gaussian kernel: as right as a support vector machine, and graded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

try:
    from scipy.linalg import solve
    from scipy.special import softmax
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

# Targets lie this far apart, so that the softmax of what is fitted is about as sure as it is right.
_APART: Final = 10.0


@dataclass(frozen=True)
class KernelRidge:
    """A score for each class: a sum over the training images, by how near they are.

    One regression a class onto "this one or another" (R. Rifkin et al., "Regularized least-squares
    classification", 2003). A support vector machine counts which of each two classes wins, so
    nearly all its answers are equally sure; these scores say how clear an answer is.

    Args:
        points: The training images, ``float32[N, D]``.
        coefficients: What each adds to each class's score, ``float64[N, K]``, or ``float32``: all
            is computed in their precision.
        bias: Of each class, ``float64[K]``.
        gamma: Inverse squared width of the kernel.
    """

    points: NDArray[np.float32]
    coefficients: NDArray[np.float64] | NDArray[np.float32]
    bias: NDArray[np.float64]
    gamma: float

    @classmethod
    def fit(
        cls,
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        *,
        c: float,
        gamma: float,
        precision: type[np.float32] | type[np.float64] = np.float64,
    ) -> KernelRidge:
        """Fit it."""
        classes = int(labels.max()) + 1
        system = _kernel(points.astype(precision), points.astype(precision), gamma)
        system[np.diag_indices_from(system)] += 1 / c
        targets = np.full((len(labels), classes), -_APART / classes, precision)
        targets[np.arange(len(labels)), labels] += _APART
        found = solve(system, targets, assume_a="pos", overwrite_a=True, overwrite_b=True)
        return cls(points, found, np.full(classes, _APART / classes), gamma)

    def decision_function(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scores, ``float64[N, K]``."""
        precision = self.coefficients.dtype
        kernel = _kernel(points.astype(precision), self.points.astype(precision), self.gamma)
        return np.asarray(kernel @ self.coefficients + self.bias, np.float64)

    def predict(self, points: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the class of each point, ``int64[N]``."""
        return np.asarray(self.decision_function(points).argmax(axis=1), np.int64)

    def predict_proba(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the softmax of the scores, ``float64[N, K]``."""
        answers: NDArray[np.float64] = softmax(self.decision_function(points), axis=1)
        return answers


def _kernel(left: NDArray[Any], right: NDArray[Any], gamma: float) -> NDArray[Any]:
    """Return the Gaussian of the distances of rows, ``[N, M]``, as precise as these are."""
    found: NDArray[Any] = left @ (2 * gamma * right).T
    found -= gamma * np.square(left).sum(axis=1)[:, None]
    found -= gamma * np.square(right).sum(axis=1)
    np.minimum(found, 0, out=found)
    np.exp(found, out=found)
    return found
