"""How far a file's answers may be from those of the model that it was made from."""

from __future__ import annotations

from typing import Final

from opsin.core.metadata import Metadata

#: Largest difference of probabilities that is put down to rounding, at temperature 1.
TOLERANCE: Final = 1e-4


def temperature_and_tolerance(metadata: Metadata) -> tuple[float, float]:
    """Return what a file's logits are divided by, and how far its probabilities may be off.

    Args:
        metadata: Those of the file; one without a calibration has the temperature 1.
    """
    calibration = metadata.calibration
    temperature = 1.0 if calibration is None else calibration.temperature
    # Dividing logits by less than 1 enlarges their rounding as well.
    return temperature, TOLERANCE * max(1.0, 1 / temperature)
