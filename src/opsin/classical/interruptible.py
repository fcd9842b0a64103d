"""A long call that cannot be interrupted, with its progress reported from another thread."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from opsin.core.artifacts.records import Epoch
from opsin.core.child_process import call_in_thread
from opsin.core.events import Pace, Watcher

T = TypeVar("T")


class _Unwanted(BaseException):
    """Ends the call from inside, since its result is no longer wanted."""


class FitProgress:
    """The progress of a call, reported from its own thread, or from several."""

    def __init__(self) -> None:
        self.done = 0
        self._adding = threading.Lock()
        self.steps: queue.SimpleQueue[Epoch] = queue.SimpleQueue()
        self.unwanted = threading.Event()

    def advance(self, done: int) -> None:
        """``done`` units are finished; does not return if the result is no longer wanted."""
        self.done = done
        self.go_on()

    def add(self) -> None:
        """One more unit is finished; likewise."""
        with self._adding:
            self.done += 1
        self.go_on()

    def go_on(self) -> None:
        """Do not return if the result is no longer wanted."""
        if self.unwanted.is_set():
            raise _Unwanted

    def step(self, step: Epoch) -> None:
        """A part whose figures are known is finished."""
        self.steps.put(step)


def run_interruptible(
    work: Callable[[FitProgress], T],
    *,
    what: str,
    total: int,
    unit: str,
    watcher: Watcher,
    stop: threading.Event,
) -> T:
    """Make a call in a thread, pass on what it says, and leave it when a stop is asked for."""
    progress, pace = FitProgress(), Pace(total)

    def look() -> None:
        if stop.is_set():
            raise KeyboardInterrupt("Ctrl-C during a fitting, which cannot be left half done")
        _pass_on(progress, watcher, pace, total)

    watcher.begin(what, total, unit)
    try:
        return call_in_thread(lambda: work(progress), name="opsin-fit", look=look)
    finally:
        progress.unwanted.set()
        watcher.end()


def _pass_on(progress: FitProgress, watcher: Watcher, pace: Pace, total: int) -> None:
    pace.saw(progress.done)
    figures = {"share": min(1.0, progress.done / total)}
    if pace.speed is not None and pace.left is not None:
        figures |= {"left": pace.left, "speed": pace.speed}
    watcher.advance(progress.done, **figures)
    with contextlib.suppress(queue.Empty):
        while True:
            watcher.epoch(progress.steps.get_nowait())
