"""Whether 90% sure means right nine times in ten, and the temperature that makes it so."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError

try:
    from scipy.optimize import minimize, minimize_scalar
    from scipy.special import log_softmax
except ImportError as error:
    raise MissingExtraError("calibration", "evaluate") from error

#: Bins of equal width from 0 to 1.
BINS: Final = 15
# Temperatures beyond these say that there is too little to go by.
_COLDEST, _HOTTEST = 0.05, 20.0
# A handful of images that are all right would ask for certainty. Log temperatures are held near
# 0 as by a normal distribution of this deviation, which a few hundred images outweigh.
_PRIOR: Final = 0.5


def reliability(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]
) -> list[dict[str, float]]:
    """Return a reliability diagram: how sure the answers were, and how often they were right.

    M. H. DeGroot and S. E. Fienberg, "The comparison and evaluation of forecasters", 1983.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return [
        {
            "low": place / BINS,
            "high": (place + 1) / BINS,
            "count": int((bins == place).sum()),
            "confidence": float(confidence[bins == place].mean()),
            "accuracy": float(right[bins == place].mean()),
        }
        for place in np.unique(bins).tolist()
    ]


def calibration_error(diagram: list[dict[str, float]]) -> float:
    """Return the expected calibration error of a reliability diagram, 0 to 1.

    C. Guo et al., "On calibration of modern neural networks", ICML 2017: the mean distance of
    confidence from accuracy, over the bins by their counts.
    """
    total = sum(entry["count"] for entry in diagram)
    apart = sum(e["count"] * abs(e["confidence"] - e["accuracy"]) for e in diagram)
    return round(apart / total, 12)


def brier_terms(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each image's Brier score, 0 (certain and right) to 2, ``float64[N]``.

    G. W. Brier, "Verification of forecasts expressed in terms of probability", 1950: the squared
    distance of the probabilities from the truth, over all classes.
    """
    exact = probabilities.astype(np.float64)
    own = exact[np.arange(len(labels)), labels]
    return np.asarray(np.square(exact).sum(axis=1) - 2 * own + 1, np.float64)


def log_loss_of(
    logits: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    temperature: float = 1.0,
    shift: NDArray[np.float64] | float = 0.0,
) -> float:
    """Return the mean cross entropy in nats of ``softmax(logits / temperature + shift)``."""
    scores = log_softmax(logits.astype(np.float64) / temperature + shift, axis=1)
    return float(-scores[np.arange(len(labels)), labels].mean())


def fit_temperature(
    logits: NDArray[np.float32], labels: NDArray[np.int64], shift: NDArray[np.float64] | float = 0.0
) -> float:
    """Find the number that logits are to be divided by, so that they say how sure they may be.

    C. Guo et al., "On calibration of modern neural networks", ICML 2017. The order of the classes
    stays as it is, so that no answer changes.
    """
    count = len(labels)
    if not count or not np.isfinite(logits).all():
        return 1.0

    def loss_at(temperature: float) -> float:
        return log_loss_of(logits, labels, temperature, shift)

    def loss(log_temperature: float) -> float:
        held = 0.5 * (log_temperature / _PRIOR) ** 2 / count
        return loss_at(float(np.exp(log_temperature))) + held

    ends = (float(np.log(_COLDEST)), float(np.log(_HOTTEST)))
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4})
    # As the file will hold it.
    temperature = float(np.float32(np.exp(found.x)))
    better = loss_at(temperature) <= loss_at(1.0)
    return temperature if better else 1.0


def fit_mix_power(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    shares: NDArray[np.float64],
    expected: float,
) -> float:
    """Find the power of the class mix that logits imply, together with their temperature.

    A regularised model gives doubtful images to common classes more often than these occur, as if
    it had learnt under a more uneven mix. Such a bias is seen, and taken back, on images that it
    has not learnt from (logit adjustment: A. K. Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021). Equal shares, and few images, leave it as expected.
    """

    def loss(at: NDArray[np.float64]) -> float:
        held = 0.5 * float(np.square((at - (0.0, expected)) / _PRIOR).sum()) / len(labels)
        shift = (1 - at[1]) * np.log(shares)
        return log_loss_of(logits, labels, float(np.exp(at[0])), shift) + held

    bounds = [(float(np.log(_COLDEST)), float(np.log(_HOTTEST))), (-1.0, 3.0)]
    return float(minimize(loss, [0.0, expected], bounds=bounds, method="L-BFGS-B").x[1])
