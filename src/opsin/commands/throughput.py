"""How fast several classifiers answer, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from opsin.commands.bench import Unit, in_batches
from opsin.core.events import SILENT, Watcher
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import CPU

#: Timed rounds; in each, every classifier has its turn.
ROUNDS: Final = 5
# Images of a turn, at most and at least.
_MOST, _LEAST = 256, 8
# Seconds that a turn of the slowest may take.
_TURN: Final = 0.2


def rates_in_turn(
    files: Sequence[Path | None], watcher: Watcher = SILENT
) -> list[tuple[float, ...] | None]:
    """Measure images a second of each classifier, in turn, so that all meet the same machine."""
    there = [file for file in files if file is not None]
    if not there:
        return [None] * len(files)
    slowest = min(_rate(in_batches(Classifier(file, device=CPU), _LEAST)) for file in there)
    count = int(min(_MOST, max(_LEAST, slowest * _TURN)))
    units = [
        None if file is None else in_batches(Classifier(file, device=CPU), count) for file in files
    ]
    rates: list[list[float]] = [[] for _ in files]
    watcher.begin("Speed", ROUNDS * len(there) * count, "images")
    done = 0
    try:
        for unit in units:
            if unit is not None:
                unit()  # not counted: it finds its memory and wakes the threads
        for _ in range(ROUNDS):
            for place, unit in enumerate(units):
                if unit is not None:
                    rates[place].append(_rate(unit, warm=True))
                    done += count
                    watcher.advance(done)
    finally:
        watcher.end()
    return [
        tuple(own) if unit is not None else None for own, unit in zip(rates, units, strict=True)
    ]


def _rate(unit: Unit, *, warm: bool = False) -> float:
    """Return the images a second of one unit of work, after one that is not counted."""
    if not warm:
        unit()
    began = time.perf_counter()
    images = unit()
    return images / max(time.perf_counter() - began, 1e-9)
