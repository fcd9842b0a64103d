"""The nearest class mean, as a linear classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax


@dataclass(frozen=True)
class NearestMean:
    """The nearest class mean, as a linear classifier: its logits are half squared distances.

    Args:
        coef_: ``float64[K, D]``
        intercept_: ``float64[K]``
    """

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    @classmethod
    def fit(cls, points: NDArray[np.float32], labels: NDArray[np.int64]) -> NearestMean:
        """Take the mean of each class, distances in units of the points' own spread."""
        means = np.stack([
            points[labels == label].mean(axis=0, dtype=np.float64) for label in np.unique(labels)
        ])  # fmt: skip
        scale = float(points.var(axis=0, dtype=np.float64).sum()) or 1.0
        # What all classes share changes no answer, and would cost digits.
        squares = (means**2).sum(axis=1)
        return cls((means - means.mean(axis=0)) / scale, (squares.mean() - squares) / (2 * scale))

    def predict(self, points: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the class of each point, ``int64[N]``."""
        return np.asarray(self.predict_proba(points).argmax(axis=1), np.int64)

    def predict_proba(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the softmax of the logits, ``float64[N, K]``."""
        answers: NDArray[np.float64] = softmax(points @ self.coef_.T + self.intercept_, axis=1)
        return answers
