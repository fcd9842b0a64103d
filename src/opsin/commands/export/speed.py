"""How fast an export answers beside its original."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.export.shipped import Speed
from opsin.core.events import Watcher
from opsin.runtime.classifier import Classifier

# In each turn both have their time, so that a machine that is busy for a while is busy for both.
_TURNS: Final = 7
# Images of a large batch, at most, and seconds that a turn of one may take.
_MANY: Final = 256
_SECONDS: Final = 0.1


def compare_speed(
    before: Classifier, after: Classifier, images: NDArray[np.uint8], watcher: Watcher
) -> tuple[Speed, Speed]:
    """Measure images a second of two classifiers in turn: one at a time, then many at once."""
    slower = min(_rate(each, images[:8], 1) for each in (before, after))
    many = int(max(1, min(_MANY, len(images), slower * _SECONDS)))
    found = []
    watcher.begin("Speed", 2 * _TURNS, "turns")
    try:
        for step, count in enumerate((1, many)):
            some = images[:count]
            repeats = max(1, int(slower * _SECONDS / count))
            rates: tuple[list[float], list[float]] = ([], [])
            for turn in range(_TURNS):
                for classifier, own in zip((before, after), rates, strict=True):
                    own.append(_rate(classifier, some, repeats))
                watcher.advance(step * _TURNS + turn + 1)
            found.append(Speed(count, *map(tuple, rates)))
    finally:
        watcher.end()
    return found[0], found[1]


def _rate(classifier: Classifier, images: NDArray[np.uint8], repeats: int) -> float:
    """Return images a second, after one batch that is not counted."""
    classifier.answers(images)
    began = time.perf_counter()
    for _ in range(repeats):
        classifier.answers(images)
    return repeats * len(images) / max(time.perf_counter() - began, 1e-9)
