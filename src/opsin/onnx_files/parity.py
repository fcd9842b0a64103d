"""How far a file's answers may be from those of the model that it was made from."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from opsin.core.metadata import Metadata

#: Largest difference of probabilities that is put down to rounding, at temperature 1.
TOLERANCE: Final = 1e-4


def answers_of(metadata: Metadata, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities that a file gives to logits, ``float64[N, K]``."""
    temperature = 1.0 if metadata.calibration is None else metadata.calibration.temperature
    mix = 0.0 if metadata.class_mix is None else metadata.class_mix.log_ratio
    answers: NDArray[np.float64] = softmax(logits / temperature + mix, axis=1)
    return answers


def tolerance_of(metadata: Metadata) -> float:
    """Return how far a file's probabilities may be off.

    Args:
        metadata: Those of the file; one without a calibration has the temperature 1.
    """
    calibration = metadata.calibration
    temperature = 1.0 if calibration is None else calibration.temperature
    # Dividing logits by less than 1 enlarges their rounding as well.
    return TOLERANCE * max(1.0, 1 / temperature)
