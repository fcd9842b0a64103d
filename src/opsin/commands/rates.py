"""All image rates of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opsin.commands.machine import Machine
from opsin.core.format import speed
from opsin.core.stored_json import JsonObject
from opsin.report.image_rate import ImageRate


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
