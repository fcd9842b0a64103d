"""Comparison of a file's answers with those of its model."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from opsin.core.errors import ParityError
from opsin.core.metadata import Metadata

#: Largest difference of probabilities by rounding, at temperature 1.
TOLERANCE: Final = 1e-4


def answers_of(metadata: Metadata, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a file's probabilities for logits, ``float64[N, K]``."""
    temperature = 1.0 if metadata.calibration is None else metadata.calibration.temperature
    mix = 0.0 if metadata.class_mix is None else metadata.class_mix.log_ratio
    answers: NDArray[np.float64] = softmax(logits / temperature + mix, axis=1)
    return answers


def check_answers(
    answers: NDArray[np.float32], expected: NDArray[np.float64], metadata: Metadata, *, of: str,
    settled: NDArray[np.bool_] | None = None, apart: float | None = None,
) -> float:  # fmt: skip
    """Compare a file's answers with those of its model."""
    temperature = 1.0 if metadata.calibration is None else metadata.calibration.temperature
    # Dividing logits by less than 1 enlarges their rounding as well.
    tolerance = TOLERANCE * max(1.0, 1 / temperature)
    known = np.ones(len(answers), bool) if settled is None else settled
    difference = float(np.abs(answers - expected)[known].max(initial=0.0))
    # Two classes that stand level may change places by a rounding; no other label may.
    second, first = np.sort(expected, axis=1)[:, -2:].T
    swapped = answers.argmax(axis=1) != expected.argmax(axis=1)
    swapped &= (first - second > 2 * tolerance) & known
    close = difference <= tolerance and (apart is None or apart <= TOLERANCE)
    if not close or swapped.any():
        inputs = "" if apart is None else f" (what they are computed from, by {apart:.2g})"
        raise ParityError(
            f"The file's probabilities differ by up to {difference:.2g} from {of}'s{inputs}, not "
            f"{tolerance:g} at most, and {int(swapped.sum())} of {len(answers)} labels with them",
            "Please report this with the run's recipe.json; the file was not written.",
        )
    return difference
