"""Events of long-running work, their observers, and its speed."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from opsin.core.artifacts.records import Epoch
    from opsin.core.metadata import Layer

# Seconds before a speed is reported, and between two samples.
_ENOUGH, _APART = 2.0, 0.25
_Item = TypeVar("_Item")
_EPOCH: Final = re.compile(r"(\d{1,9})/(\d{1,9})")


class Watcher:
    """Empty hooks, called while long work goes on; override those you want.

    Example:
        >>> class Loud(Watcher):
        ...     def note(self, text: str) -> None:
        ...         print(text.upper())
        >>> Loud().note("two images skipped")
        TWO IMAGES SKIPPED
    """

    def fact(self, name: str, text: str) -> None:
        """A fact that is now known: ``fact("Device", "CPU, 2 threads")``."""

    def layers(self, layers: Sequence[Layer]) -> None:
        """The network, as the summary before training shows it."""

    def note(self, text: str) -> None:
        """A warning: what happened, then what to do."""

    def begin(self, what: str, total: int, unit: str) -> None:
        """Work of ``total`` units starts."""

    def advance(self, done: int, **figures: float) -> None:
        """``done`` units of the current work are finished, in all.

        A training gives three figures of the whole beside those of the work in hand: ``share``
        (of all epochs, 0 to 1), ``left`` (seconds) and ``speed`` (units a second).
        """

    def end(self) -> None:
        """The current work is over."""

    def judged(self, rows: Sequence[int], right: Sequence[bool]) -> None:
        """Images were answered by a head that has not seen them, and these it had right.

        ``rows`` count in the run's images, as in ``split.npz``.
        """

    def run_started(self, run: Path) -> None:
        """A run directory has its recipe and its split; ``opsin.Run(run).recipe`` reads it.

        Also when a training resumes in the directory that it has.
        """

    def epoch(self, epoch: Epoch) -> None:
        """An epoch and its validation are over."""

    def rewind(self, epochs: int) -> None:
        """The training continues from an earlier state: only the first ``epochs`` epochs count.

        Called when a training resumes, and when it steps back because its loss exploded.
        """

    def run_ended(self, run: Path) -> None:
        """All files of a run are written, or it has stopped or failed.

        ``opsin.Run(run)`` has its figures, and ``run.directory.state()`` says how it ended.
        """

    def doing(self, what: str) -> None:
        """The current activity, such as "validation"; called often, so be quick."""


#: Ignores all events.
SILENT = Watcher()


def watched(
    watcher: Watcher,
    what: str,
    total: int,
    items: Iterable[_Item],
    *,
    unit: str = "images",
    size: Callable[[_Item], int] = lambda _: 1,
) -> Iterator[_Item]:
    """Yield items of work, each of some units, while a watcher receives its progress."""
    watcher.begin(what, total, unit)
    done = 0
    for item in items:
        yield item
        watcher.advance(done := done + size(item))
    watcher.end()


class WatcherGroup(Watcher):
    """Forwards every event to several watchers; ``display`` hears why one of the user's is dropped.

    Without a ``display``, what a watcher raises is raised.
    """

    def __init__(self, *watchers: Watcher, display: Watcher | None = None) -> None:
        self.watchers, self.display = list(watchers), display

    def each(self, event: Callable[[Watcher], None]) -> None:
        """Call a hook of each watcher."""
        for watcher in list(self.watchers):
            try:
                event(watcher)
            except Exception as error:
                if self.display is None:
                    raise
                self.watchers.remove(watcher)
                name = type(watcher).__name__
                self.display.note(f"the observer {name} failed ({error!r}) and is left out")


def _passing_on(name: str) -> Callable[..., None]:
    return lambda group, *values, **figures: group.each(
        lambda watcher: getattr(watcher, name)(*values, **figures)
    )


for _name in [name for name in vars(Watcher) if not name.startswith("_")]:
    setattr(WatcherGroup, _name, _passing_on(_name))


class Pace:
    """The speed of work, over the latter half of its time so far."""

    def __init__(self, total: float, done: float = 0.0, now: float | None = None) -> None:
        self._total = total
        now = time.monotonic() if now is None else now
        self._began = now
        self._marks = deque([(now, done)])
        self._last = (now, done)

    def saw(self, done: float, now: float | None = None) -> None:
        """Record how many units are done; fewer than before restart the clock."""
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
        """Units a second; ``None`` at first."""
        (since, before), (now, done) = self._marks[0], self._last
        if now - self._began < _ENOUGH or done <= before or now <= since:
            return None
        return (done - before) / (now - since)

    @property
    def left(self) -> float | None:
        """Seconds until the end; ``None`` without a speed."""
        speed = self.speed
        return max(0.0, self._total - self._last[1]) / speed if speed else None


def epoch_of(doing: str) -> tuple[int, int] | None:
    """The current epoch and the number of epochs, parsed from ``3/10``."""
    match = _EPOCH.fullmatch(doing.strip())
    return (int(match[1]), int(match[2])) if match else None
