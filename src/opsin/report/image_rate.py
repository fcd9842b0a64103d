"""How many images a machine gets through in a second, and what that means."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Final, Literal

from opsin.core.format import clock
from opsin.core.stored_json import JsonObject

Work = Literal["reading", "training", "prediction"]
#: How a single image is asked for.
ONE: Final = "one at a time"


@dataclass(frozen=True)
class ImageRate:
    """What one measurement has found.

    Args:
        work: ``reading``, ``training`` or ``prediction``.
        name: The network, or the kind of file.
        how: ``batch of 128``, ``one at a time``, ``2 threads``.
        shape: Height, width and channels of a prepared image.
        device: ``cpu``, ``cuda`` or ``mps``.
        rates: Images a second of each repeat.
    """

    work: Work
    name: str
    how: str
    shape: tuple[int, int, int]
    device: str
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        """Images a second: the median of the repeats."""
        return statistics.median(self.rates)

    @property
    def low(self) -> float:
        """Images a second of the slowest repeat."""
        return min(self.rates)

    @property
    def high(self) -> float:
        """Images a second of the fastest repeat."""
        return max(self.rates)

    @property
    def size(self) -> str:
        """Height and width in words: ``32×32``."""
        return f"{self.shape[0]}×{self.shape[1]}"

    def sentence(self) -> str:
        """Say what the rate means.

        Example:
            >>> rate = ImageRate("training", "cnn", "", (32, 32, 3), "cpu", (500.0,))
            >>> rate.sentence()
            'An epoch of 60,000 images of 32×32 with cnn takes about 2:00 (cpu, no validation).'
        """
        if self.work == "training":
            return (
                f"An epoch of 60,000 images of {self.size} with {self.name} takes about "
                f"{_duration(60_000 / self.median)} ({self.device}, no validation)."
            )
        if self.work == "reading":
            return (
                f"10,000 files ({self.name}) become images of {self.size} in about "
                f"{_duration(10_000 / self.median)}."
            )
        if self.how == ONE:
            return (
                f"{self.name} answers for one image of {self.size} in about "
                f"{1000 / self.median:.2g} ms ({self.device})."
            )
        return (
            f"{self.name} answers for 10,000 images of {self.size} in about "
            f"{_duration(10_000 / self.median)} ({self.device})."
        )

    def to_json(self) -> JsonObject:
        """Return it as plain data."""
        return {
            "work": self.work,
            "name": self.name,
            "how": self.how,
            "shape": list(self.shape),
            "size": self.size,
            "device": self.device,
            "images_per_second": self.median,
            "slowest": self.low,
            "fastest": self.high,
            "repeats": list(self.rates),
            "meaning": self.sentence(),
        }


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else clock(seconds)
