"""Least squares with a Gaussian kernel: as right as a support vector machine, and graded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

try:
    from scipy.linalg import solve
    from scipy.special import softmax
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

_Float = TypeVar("_Float", np.float32, np.float64)
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
        coefficients: What each adds to each class's score, ``float64[N, K]``.
        bias: Of each class, ``float64[K]``.
        gamma: Inverse squared width of the kernel.
    """

    points: NDArray[np.float32]
    coefficients: NDArray[np.float64]
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
        weighted: bool,
    ) -> KernelRidge:
        """Fit it.

        Args:
            points: ``float32[N, D]``
            labels: The classes as numbers from 0, ``int64[N]``.
            c: Inverse strength of the regularisation.
            gamma: Inverse squared width of the kernel.
            weighted: Whether rare classes count as much as common ones.
        """
        kernel = np.exp(-gamma * squared_distances(points, points))
        coefficients, bias = solved(kernel, labels, c=c, weighted=weighted)
        return cls(points, coefficients, bias, gamma)

    def decision_function(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the scores, ``float64[N, K]``."""
        kernel = np.exp(-self.gamma * squared_distances(points, self.points))
        scores: NDArray[np.float64] = kernel @ self.coefficients + self.bias
        return scores

    def predict(self, points: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the class of each point, ``int64[N]``."""
        return np.asarray(self.decision_function(points).argmax(axis=1), np.int64)

    def predict_proba(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the softmax of the scores, ``float64[N, K]``."""
        answers: NDArray[np.float64] = softmax(self.decision_function(points), axis=1)
        return answers


def squared_distances(
    points: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return them in double precision, ``float64[N, M]``."""
    left, right = points.astype(np.float64), others.astype(np.float64)
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)
    distances: NDArray[np.float64] = np.maximum(squares - 2 * left @ right.T, 0)
    return distances


def solved(
    kernel: NDArray[_Float], labels: NDArray[np.int64], *, c: float, weighted: bool
) -> tuple[NDArray[_Float], NDArray[_Float]]:
    """Return the coefficients, ``[N, K]``, and the bias, ``[K]``, as precise as the kernel is.

    Args:
        kernel: Between all training images, ``float32[N, N]`` or ``float64``.
        labels: ``int64[N]``
        c: Inverse strength of the regularisation.
        weighted: Whether rare classes count as much as common ones.
    """
    classes = int(labels.max()) + 1
    bias = np.full(classes, _APART / classes, kernel.dtype)
    targets = np.asarray(_APART, kernel.dtype) * np.eye(classes, dtype=kernel.dtype)[labels] - bias
    counts = np.bincount(labels, minlength=classes)
    weights = np.ones(len(labels))
    if weighted:
        weights = len(labels) / (np.count_nonzero(counts) * counts[labels])
    system = kernel.copy()
    system[np.diag_indices_from(system)] += (1 / (c * weights)).astype(kernel.dtype)
    return solve(system, targets, assume_a="pos", overwrite_a=True, overwrite_b=True), bias
