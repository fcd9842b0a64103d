"""How fast work goes, and how long it still takes."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from typing import Final

from opsin.core.errors import RecipeError

# Seconds after which a speed means something, and between two moments that are remembered.
_ENOUGH: Final = 2.0
_APART: Final = 0.25
_NUMBER: Final = r"([0-9]+(?:[.][0-9]+)?)"
_TIME: Final = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m(?:in)?)?(?:{_NUMBER}s)?")
_EPOCH: Final = re.compile(r"(\d{1,9})/(\d{1,9})")


class Pace:
    """The speed of work over the last half of the time that it has taken."""

    def __init__(self, total: float, done: float = 0.0, now: float | None = None) -> None:
        self._total = total
        now = time.monotonic() if now is None else now
        self._began = now
        self._marks = deque([(now, done)])
        self._last = (now, done)

    def saw(self, done: float, now: float | None = None) -> None:
        """Record how many units are done; fewer than before begin anew."""
        now = time.monotonic() if now is None else now
        if done < self._last[1]:
            self._began, self._marks = now, deque([(now, done)])
        self._last = (now, done)
        if now - self._marks[-1][0] >= _APART:
            self._marks.append((now, done))
        while len(self._marks) > 1 and self._marks[1][0] <= (self._began + now) / 2:
            self._marks.popleft()

    @property
    def speed(self) -> float | None:
        """Units a second; ``None`` where nothing can be said yet."""
        (since, before), (now, done) = self._marks[0], self._last
        if now - self._began < _ENOUGH or done <= before or now <= since:
            return None
        return (done - before) / (now - since)

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes, as of the last look; ``None`` where that is not known."""
        speed = self.speed
        return max(0.0, self._total - self._last[1]) / speed if speed else None


def epoch_of(doing: str) -> tuple[int, int] | None:
    """Return the epoch in hand and how many there are, from the name of the work."""
    found = _EPOCH.fullmatch(doing.strip())
    return (int(found[1]), int(found[2])) if found else None


def seconds_of(text: str | float) -> float:
    """Read a time: ``10m``, ``90s``, ``1h30m`` or a number of seconds."""
    plain = str(text).strip().lower()
    found = _TIME.fullmatch(f"{plain}s" if re.fullmatch(_NUMBER, plain) else plain)
    hours, minutes, seconds = map(float, found.groups("0")) if found else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if not 0 < total < math.inf:
        raise RecipeError("a time such as 10m, 90s, 1h30m or 600", f"got {text!r}", "Give another.")
    return total
