"""A run's status, history and log, kept during the work."""

from __future__ import annotations

import contextlib
import io
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from opsin.core.artifacts.records import Epoch, JudgedImages
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError
from opsin.core.events import SILENT, Watcher, WatcherGroup, epoch_of
from opsin.core.storage import storage_errors
from opsin.report.terminal import LogFile, for_people
from opsin.trackers import chosen_trackers
from opsin.trackers.tracking import RunTracking
from opsin.training.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    from opsin.training.trainer import Outcome

# Least seconds between two heartbeats in ``status.json``.
_HEARTBEAT: Final = 1.0


class Recorder(WatcherGroup):
    """Forwards all events, and writes the run's history and progress."""

    def __init__(self, directory: RunDirectory, *watchers: Watcher) -> None:
        super().__init__(*watchers)
        self.directory = directory
        self.outcome: Outcome | None = None  # of the training, if it had epochs
        self._beat = time.monotonic()
        self._doing = "the start"
        self._work: tuple[str, int, str] | None = None  # what, units in all, their name
        # Of the whole training: the share that is done, and when it ends.
        self._share: float | None = None
        self._ends: float | None = None
        self._judged: dict[int, bool] = {}  # whether the answer to an image was right

    def begin(self, what: str, total: int, unit: str) -> None:
        """Work starts."""
        self._work = what, total, unit
        if self._share is not None and epoch_of(what) is None:
            self._share, self._ends = 1.0, None  # the training is over
        self._show(0, {})
        super().begin(what, total, unit)

    def advance(self, done: int, **figures: float) -> None:
        """Work goes on."""
        self._show(done, figures)
        super().advance(done, **figures)

    def end(self) -> None:
        """Work is over."""
        self._work = None
        super().end()

    def doing(self, what: str) -> None:
        """Show work that is not counted."""
        self._doing = what
        if self._work is None:
            self._show(0, {})

    def _show(self, done: int, figures: dict[str, float]) -> None:
        now = time.monotonic()
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._share = figures.pop("share", self._share)
        if "left" in figures:
            self._ends = now + figures.pop("left")
        if now - self._beat < _HEARTBEAT:
            return
        self._beat = now
        what, total, unit = self._work or (self._doing, 0, "")
        self.directory.show_progress(
            doing=what,
            done=done,
            total=total,
            unit=unit,
            share=self._share,
            left=None if self._ends is None else max(0.0, self._ends - now),
            speed=figures.pop("speed", None),
            figures=figures,
        )

    def judged(self, rows: Sequence[int], right: Sequence[bool]) -> None:
        """Add images to those that are judged."""
        self._judged |= dict(zip(rows, right, strict=True))
        judged = JudgedImages(rows=list(self._judged), right=list(self._judged.values()))
        judged.write(self.directory.path)
        super().judged(rows, right)

    def epoch(self, epoch: Epoch) -> None:
        """Add an epoch to the history."""
        self.directory.append(epoch, sync=True)
        self._share = epoch.epoch / epoch.epochs
        super().epoch(epoch)

    def rewind(self, epochs: int) -> None:
        """Remove the epochs that will be trained again."""
        self.directory.cut_history(epochs)
        self._ends = None
        super().rewind(epochs)


def watcher_of_run(
    watcher: Watcher | None,
    observers: Sequence[Watcher],
    track: str | Sequence[str] | None = None,
    *,
    quiet: bool,
    group: ProcessGroup = ALONE,
) -> Watcher:
    """The display, observers and trackers of a run, in the process that writes it."""
    if not group.writes:
        return SILENT
    display = watcher or for_people(quiet=quiet)
    tracking = [RunTracking(tracker, display) for tracker in chosen_trackers(track)]
    others = (*observers, *tracking)
    return WatcherGroup(display, WatcherGroup(*others, display=display)) if others else display


@contextlib.contextmanager
def recorded(
    directory: RunDirectory, watcher: Watcher, launch: str | None = None
) -> Iterator[Recorder]:
    """Keep ``status.json`` and ``log.txt`` true, however the block ends."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(directory.hold())
        with storage_errors(directory.log):
            added = stack.enter_context(directory.open_to_add(directory.log))
        log = io.TextIOWrapper(added, encoding="utf-8", errors="backslashreplace")
        file = stack.enter_context(log)
        directory.set_status("running", **({} if launch is None else {"launch": launch}))
        recorder = Recorder(directory, watcher, LogFile(file))
        try:
            yield recorder
        except BaseException as error:
            recorder.end()
            stopped = isinstance(error, KeyboardInterrupt)
            cause = str(error) if isinstance(error, OpsinError) else repr(error)
            cause = (str(error) or "Ctrl-C, twice") if stopped else cause
            # A full disk fails here, too; the first error is the one to report.
            with contextlib.suppress(OpsinError, OSError):
                directory.set_status("stopped" if stopped else "failed", cause=cause)
                file.write(f"{cause}\n")
                if any(directory.checkpoints.glob("*.json")):
                    recorder.note(f"nothing is lost; to go on: opsin resume {directory.path}")
            raise
        else:
            diverged, stopped = None, False
            if recorder.outcome is not None:
                diverged, stopped = recorder.outcome.diverged, recorder.outcome.stopped
            directory.set_status("stopped" if diverged or stopped else "done", cause=diverged)
        finally:
            recorder.run_ended(directory.path)


@contextlib.contextmanager
def graceful_interrupt() -> Iterator[threading.Event]:
    """An event set by the first Ctrl-C or SIGTERM; the second one interrupts."""
    stop = threading.Event()

    def on_signal(_: int, __: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    requests = signal.SIGINT, signal.SIGTERM
    before = {number: signal.signal(number, on_signal) for number in requests}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
