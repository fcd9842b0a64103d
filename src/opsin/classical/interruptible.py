"""A long call that cannot be interrupted, with its progress reported from another thread."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from opsin.core.artifacts.epoch import Epoch
from opsin.core.events import Watcher
from opsin.core.pace import Pace

T = TypeVar("T")

#: Seconds between two looks at the call.
_LOOK: Final = 0.2


class _Unwanted(BaseException):
    """Ends the call from inside, since its result is no longer wanted."""


class FitProgress:
    """The progress of a call, reported from its own thread."""

    def __init__(self) -> None:
        self.done = 0
        self.steps: queue.SimpleQueue[Epoch] = queue.SimpleQueue()
        self.unwanted = threading.Event()

    def advance(self, done: int) -> None:
        """``done`` units are finished; does not return where the call is not wanted any more."""
        self.done = done
        if self.unwanted.is_set():
            raise _Unwanted

    def step(self, step: Epoch) -> None:
        """A part whose figures are known is finished."""
        self.steps.put(step)


class _Call(threading.Thread, Generic[T]):
    """The thread that makes the call."""

    def __init__(self, work: Callable[[FitProgress], T]) -> None:
        # A daemon: the process must not wait for a result that is not wanted.
        super().__init__(name="opsin-fit", daemon=True)
        self._work = work
        self.progress = FitProgress()
        self.result: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        with contextlib.suppress(_Unwanted):
            try:
                self.result.append(self._work(self.progress))
            except Exception as error:  # noqa: BLE001  raised again in the caller's thread
                self.error = error


def run_interruptible(
    work: Callable[[FitProgress], T],
    *,
    what: str,
    total: int,
    unit: str,
    watcher: Watcher,
    stop: threading.Event,
) -> T:
    """Make a call in a thread, pass on what it says, and leave it when a stop is asked for.

    scikit-learn spends minutes inside one call, in which Python sees no Ctrl-C.

    Args:
        work: The call; it reports its progress to what it is given.
        what: What it is called while it goes on.
        total: How many units there are.
        unit: What these are.
        watcher: Gets the progress, from the thread that waits.
        stop: Asks for an end.

    Raises:
        KeyboardInterrupt: The end was asked for; what the call had done is lost.
        Exception: What the call has raised.

    Example:
        >>> run_interruptible(lambda progress: 7, what="Fit", total=1, unit="steps",
        ...                   watcher=Watcher(), stop=threading.Event())
        7
    """
    call, pace = _Call(work), Pace(total)
    watcher.begin(what, total, unit)
    call.start()
    try:
        while call.is_alive():
            call.join(_LOOK)
            if stop.is_set():
                raise KeyboardInterrupt("Ctrl-C during a fitting, which cannot be left half done")
            _pass_on(call.progress, watcher, pace, total)
        _pass_on(call.progress, watcher, pace, total)
    finally:
        call.progress.unwanted.set()
        watcher.end()
    if call.error is not None:
        raise call.error
    return call.result[0]


def _pass_on(progress: FitProgress, watcher: Watcher, pace: Pace, total: int) -> None:
    pace.saw(progress.done)
    figures = {"share": min(1.0, progress.done / total)}
    if pace.speed is not None and pace.left is not None:
        figures |= {"left": pace.left, "speed": pace.speed}
    watcher.advance(progress.done, **figures)
    with contextlib.suppress(queue.Empty):
        while True:
            watcher.epoch(progress.steps.get_nowait())
