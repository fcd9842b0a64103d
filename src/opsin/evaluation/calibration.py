"""Calibration: temperature and class mix."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Doubles, Floats, Ints
from opsin.core.errors import MissingExtraError

try:
    from scipy.optimize import minimize, minimize_scalar
    from scipy.special import log_softmax
except ImportError as error:
    raise MissingExtraError("calibration", "evaluate") from error

# Temperatures beyond these mean too little data.
_COLDEST, _HOTTEST = 0.05, 20.0
# A few images that are all right would give infinite confidence. Log temperatures have a normal
# prior of this deviation around 0, which a few hundred images outweigh.
_PRIOR: Final = 0.5


def log_loss_of(
    logits: NDArray[np.floating[Any]],
    labels: Ints,
    temperature: float = 1.0,
    shift: Doubles | float = 0.0,
) -> float:
    """Return the mean cross entropy in nats of ``softmax(logits / temperature + shift)``."""
    scores = log_softmax(logits.astype(np.float64) / temperature + shift, axis=1)
    return float(-scores[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: Floats, labels: Ints, shift: Doubles | float = 0.0) -> float:
    """Fit the temperature that logits are divided by, so that confidence matches accuracy.

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
    result = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4})
    # As the file will hold it.
    temperature = float(np.float32(np.exp(result.x)))
    better = loss_at(temperature) <= loss_at(1.0)
    return temperature if better else 1.0


def fit_mix_power(logits: Floats, labels: Ints, shares: Doubles, expected: float) -> float:
    """Find the power of the class mix that logits imply, together with their temperature.

    A regularised model gives doubtful images to common classes more often than these occur, as if
    it had learnt under a more uneven mix. Such a bias is seen, and taken back, on images that it
    has not learnt from (logit adjustment: A. K. Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021). Equal shares, and few images, leave it as expected.
    """

    def loss(at: Doubles) -> float:
        held = 0.5 * float(np.square((at - (0.0, expected)) / _PRIOR).sum()) / len(labels)
        shift = (1 - at[1]) * np.log(shares)
        return log_loss_of(logits, labels, float(np.exp(at[0])), shift) + held

    bounds = [(float(np.log(_COLDEST)), float(np.log(_HOTTEST))), (-1.0, 3.0)]
    return float(minimize(loss, [0.0, expected], bounds=bounds, method="L-BFGS-B").x[1])
