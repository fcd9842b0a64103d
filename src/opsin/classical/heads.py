"""Heads on a network's features: their projection, and the classifiers on top of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Doubles, Floats, Ints
from opsin.core.errors import MissingExtraError
from opsin.data.cache import index_key, kept_arrays

try:
    from scipy.linalg import cho_factor, cho_solve, eigh
    from scipy.optimize import minimize
    from scipy.special import log_softmax
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

#: Most directions: more tell classes apart no better.
COMPONENTS: Final = 512
#: Softens the root about zero, where it would enlarge rounding without end.
SOFT: Final = 0.01
#: Added to a squared length, which may be 0.
LEAST: Final = 1e-6
#: Floor of the rest of a squared length: less is rounding.
REST: Final = 1e-4
# Images that directions are found in.
_SHOWN: Final = 3_000
# Squared lengths below this share of the largest are rounding.
_ROUNDING: Final = 1e-7
# L-BFGS ends if the objective falls by less than this share, or after so many steps.
_TOLERANCE: Final = 1e-6
_ITERATIONS: Final = 200
# Distance of targets, at which the softmax of scores is about as confident as accurate.
_APART: Final = 10.0


def rooted(features: Floats, blocks: Sequence[int]) -> Floats:
    """The signed roots of features, each depth's block scaled to length 1 (Hellinger's kernel)."""
    # A few strong features then outweigh the others less (F. Perronnin et al., ECCV 2010).
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
    """The roots of features (`rooted`) as few numbers, which keep their length."""

    weight: Floats  # ``float32[K, D]``, rows of length 1 at right angles
    blocks: tuple[int, ...]  # how many of the D belong together, in order

    @classmethod
    def fit(cls, roots: Floats, rows: Ints, blocks: Sequence[int]) -> Projection:
        """Keep the directions that these rows lie in most: of up to 512, all of them."""
        places = np.linspace(0, len(rows) - 1, min(len(rows), _SHOWN)).round().astype(np.int64)
        # If few are left out of many, single precision suffices.
        few = len(places) <= 2 * COMPONENTS
        shown: NDArray[Any] = roots[rows[places]].astype(np.float64 if few else np.float32)
        first = max(0, len(shown) - min(COMPONENTS, shown.shape[1]))

        def decompose() -> dict[str, NDArray[Any]]:
            # There are far more numbers than images: of the products of images it is quicker.
            squares, vectors = eigh(shown @ shown.T, subset_by_index=[first, len(shown) - 1])
            return {"squares": squares, "vectors": vectors}

        key = index_key(hashlib.sha256(shown.data).hexdigest(), shown.shape, first)
        squares, vectors = kept_arrays("heads", key, decompose, itemgetter("squares", "vectors"))
        kept = squares > _ROUNDING * float(squares[-1])
        weight = ((vectors[:, kept] / np.sqrt(squares[kept])).T @ shown)[::-1]
        return cls(weight.astype(np.float32), tuple(blocks))

    def transform(self, features: Floats) -> Floats:
        """The points of rows of features, ``float32[N, K + 1]``."""
        return self.of_roots(rooted(features, self.blocks))

    def of_roots(self, roots: Floats) -> Floats:
        """The points of roots from `rooted`, ``float32[N, K + 1]``."""
        points = roots @ self.weight.T
        rest = np.maximum(1 - np.square(points).sum(axis=1, keepdims=True), np.float32(REST))
        return np.asarray(np.concatenate([points, np.sqrt(rest)], axis=1), np.float32)


@dataclass(frozen=True)
class LinearClassifier:
    """A linear classifier, whose answers are the softmax of its logits."""

    coef_: Doubles  # ``float64[K, D]``
    intercept_: Doubles  # ``float64[K]``

    @classmethod
    def logistic(cls, points: Floats, labels: Ints, *, c: float) -> LinearClassifier:
        """Fit multinomial logistic regression."""
        classes, size = int(labels.max()) + 1, points.shape[1]
        scaled = np.append(points, np.ones((len(points), 1), np.float32), axis=1)
        curvature = c * (classes - 1) / classes**2 * np.square(scaled).sum(axis=0, dtype=np.float64)
        penalised = np.arange(size + 1) < size
        scales = 1 / np.sqrt(curvature + penalised)
        penalty = penalised * scales**2
        scaled *= scales.astype(np.float32)
        rows = np.arange(len(labels))

        def objective(flat: Doubles) -> tuple[float, Doubles]:
            values = flat.reshape(classes, size + 1)
            logs = log_softmax(scaled @ values.T.astype(np.float32), axis=1)
            slopes = np.exp(logs)
            slopes[rows, labels] -= 1
            loss = -c * float(logs[rows, labels].sum(dtype=np.float64))
            loss += float((penalty * values**2).sum()) / 2
            return loss, (c * (slopes.T @ scaled) + penalty * values).ravel()

        start = np.zeros(classes * (size + 1))
        options: Any = {"maxiter": _ITERATIONS, "ftol": _TOLERANCE, "gtol": 0.0}
        result = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        values = result.x.reshape(classes, size + 1) * scales
        return cls(values[:, :-1], values[:, -1])

    @classmethod
    def nearest_mean(cls, points: Floats, labels: Ints) -> LinearClassifier:
        """Take the mean of each class; logits are half squared distances from these."""
        of_classes = (points[labels == label] for label in np.unique(labels))
        means = np.stack([own.mean(axis=0, dtype=np.float64) for own in of_classes])
        scale = float(points.var(axis=0, dtype=np.float64).sum()) or 1.0
        # A common offset changes no answer, and would cost digits.
        squares = (means**2).sum(axis=1)
        return cls((means - means.mean(axis=0)) / scale, (squares.mean() - squares) / (2 * scale))

    def decision_function(self, points: Floats) -> Doubles:
        """The logits, ``float64[N, K]``."""
        return np.asarray(points @ self.coef_.T + self.intercept_, np.float64)


@dataclass(frozen=True)
class KernelRidge:
    """Scores that say how sure they are: least squares by class, Gaussian kernel (Rifkin, 2003)."""

    # Of a support vector machine, which counts votes, nearly all answers are equally sure.

    points: Floats  # the training images, ``float32[N, D]``
    # Each image's part in each class's score, ``float64[N, K]`` or ``float32``, which sets the
    # precision of all arithmetic.
    coefficients: Doubles | Floats
    bias: Doubles  # of each class, ``float64[K]``
    gamma: float  # inverse squared width of the kernel

    @classmethod
    def fit(
        cls, points: Floats, labels: Ints, *, c: float, gamma: float, exact: bool = True
    ) -> KernelRidge:
        """Fit it, in double precision, which is done once for the same images, or in single."""
        classes, precision = int(labels.max()) + 1, np.float64 if exact else np.float32

        def solve() -> dict[str, NDArray[Any]]:
            exactly = points.astype(precision)
            system = _kernel(exactly, exactly, gamma)
            system[np.diag_indices_from(system)] += 1 / c
            targets = np.full((len(labels), classes), -_APART / classes, precision)
            targets[np.arange(len(labels)), labels] += _APART
            factor = cho_factor(system.T, overwrite_a=True)
            return {"solution": cho_solve(factor, targets, overwrite_b=True)}

        key = index_key(hashlib.sha256(points.data).hexdigest(), labels.tolist(), c, gamma)
        made = itemgetter("solution")
        coefficients = kept_arrays("heads", key, solve, made) if exact else made(solve())
        return cls(points, coefficients, np.full(classes, _APART / classes), gamma)

    def decision_function(self, points: Floats) -> Doubles:
        """The scores, ``float64[N, K]``."""
        precision = self.coefficients.dtype
        kernel = _kernel(points.astype(precision), self.points.astype(precision), self.gamma)
        return np.asarray(kernel @ self.coefficients + self.bias, np.float64)


def _kernel(left: NDArray[Any], right: NDArray[Any], gamma: float) -> NDArray[Any]:
    """The Gaussian of the distances of rows, ``[N, M]``, as precise as these are."""
    values: NDArray[Any] = left @ right.T  # half the work where both are one array
    values *= 2 * gamma
    values -= gamma * np.square(left).sum(axis=1)[:, None]
    values -= gamma * np.square(right).sum(axis=1)
    np.minimum(values, 0, out=values)
    np.exp(values, out=values)
    return values
