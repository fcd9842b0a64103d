"""Linear classifiers: multinomial logistic regression, and the nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

try:
    from scipy.optimize import minimize
    from scipy.special import log_softmax, softmax
except ImportError as error:
    raise MissingExtraError("classical models", "classical") from error

# L-BFGS ends where the objective falls by less than this share of it, or after so many steps.
_TOLERANCE: Final = 1e-6
_ITERATIONS: Final = 200


@dataclass(frozen=True)
class LinearClassifier:
    """A linear classifier, whose answers are the softmax of its logits.

    Args:
        coef_: ``float64[K, D]``
        intercept_: ``float64[K]``
    """

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    @classmethod
    def logistic(
        cls, points: NDArray[np.float32], labels: NDArray[np.int64], *, c: float
    ) -> LinearClassifier:
        """Fit multinomial logistic regression."""
        classes, size = int(labels.max()) + 1, points.shape[1]
        scaled = np.append(points, np.ones((len(points), 1), np.float32), axis=1)
        curvature = c * (classes - 1) / classes**2 * np.square(scaled).sum(axis=0, dtype=np.float64)
        penalised = np.arange(size + 1) < size
        scales = 1 / np.sqrt(curvature + penalised)
        penalty = penalised * scales**2
        scaled *= scales.astype(np.float32)
        rows = np.arange(len(labels))

        def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            values = flat.reshape(classes, size + 1)
            logs = log_softmax(scaled @ values.T.astype(np.float32), axis=1)
            slopes = np.exp(logs)
            slopes[rows, labels] -= 1
            loss = -c * float(logs[rows, labels].sum(dtype=np.float64))
            loss += float((penalty * values**2).sum()) / 2
            return loss, (c * (slopes.T @ scaled) + penalty * values).ravel()

        start = np.zeros(classes * (size + 1))
        options: Any = {"maxiter": _ITERATIONS, "ftol": _TOLERANCE, "gtol": 0.0}
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        values = found.x.reshape(classes, size + 1) * scales
        return cls(values[:, :-1], values[:, -1])

    @classmethod
    def nearest_mean(
        cls, points: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> LinearClassifier:
        """Take the mean of each class; logits are half squared distances from these."""
        means = np.stack([
            points[labels == label].mean(axis=0, dtype=np.float64) for label in np.unique(labels)
        ])  # fmt: skip
        scale = float(points.var(axis=0, dtype=np.float64).sum()) or 1.0
        # What all classes share changes no answer, and would cost digits.
        squares = (means**2).sum(axis=1)
        return cls((means - means.mean(axis=0)) / scale, (squares.mean() - squares) / (2 * scale))

    def decision_function(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits, ``float64[N, K]``."""
        return np.asarray(points @ self.coef_.T + self.intercept_, np.float64)

    def predict_proba(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the softmax of the logits, ``float64[N, K]``."""
        answers: NDArray[np.float64] = softmax(self.decision_function(points), axis=1)
        return answers
