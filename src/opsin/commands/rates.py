"""Image rates of a machine, and what they mean."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from opsin.commands.machine import Machine
from opsin.core.format import clock, speed
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


@dataclass(frozen=True)
class Benchmark:
    """All that was measured on a machine.

    Args:
        machine: Where.
        rates: The measurements, in the order in which they were made.
        files: The chart and the JSON file, where they were asked for.
    """

    machine: Machine
    rates: tuple[ImageRate, ...]
    files: tuple[Path, ...] = ()

    def headline(self) -> str:
        """Say the most important rate in a few words: the chart's title."""
        for work, does in (("training", "trains on"), ("prediction", "answers for")):
            own = self._of_the_last(work)
            if own:
                best = max(own, key=lambda rate: rate.median)
                return f"{best.name} {does} {speed(best.median)} images of {best.size} a second"
        best = max(self.rates, key=lambda rate: rate.median)
        return f"{speed(best.median)} images a second are read from {best.name}"

    def sentences(self) -> list[str]:
        """Say what matters most: reading, an epoch, an answer, and what a GPU brings."""
        said = [rate.sentence() for rate in self.rates if rate.work == "reading"][:1]
        for work in ("training", "prediction"):
            own = self._of_the_last(work)
            said += [rate.sentence() for rate in own] + _compared(own)
        return said

    def _of_the_last(self, work: str) -> list[ImageRate]:
        """Return the rates of the network that was measured last: the largest, the default."""
        own = [rate for rate in self.rates if rate.work == work]
        return [rate for rate in own if rate.name == own[-1].name]

    def to_json(self) -> JsonObject:
        """Return it as plain data."""
        return {
            "machine": {**self.machine.to_json(), "line": self.machine.line()},
            "rates": [rate.to_json() for rate in self.rates],
            "sentences": self.sentences(),
            "figures": [str(path) for path in self.files],
        }


def _compared(rates: Sequence[ImageRate]) -> list[str]:
    """Say how many times as fast another device is, where no repeat contradicts it."""
    return [
        f"{other.name}, {other.how}: {other.device} is {other.median / cpu.median:.1f} times as "
        "fast as cpu."
        for cpu in rates
        for other in rates
        if cpu.device == "cpu" != other.device and cpu.how == other.how and cpu.high < other.low
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else clock(seconds)
