"""A run's events on their way to a tracker, which a training never waits for."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, cast

from opsin.core.artifacts.epoch import Epoch
from opsin.core.artifacts.run_report import Report
from opsin.core.child_process import child_environment, exit_reason, module_command
from opsin.core.events import Watcher
from opsin.core.file_stamp import file_stamp
from opsin.core.operating_system import end_group
from opsin.core.stored_json import JsonObject
from opsin.trackers import chosen_trackers
from opsin.trackers.tracker import TrackerKind

# Events that may wait for a tracker; further ones are left out.
_WAITING: Final = 1_000
# Seconds that the end of a run waits for a tracker that shows no progress, and for any.
_SILENCE: Final = 30.0
_LONGEST: Final = 120.0
# Seconds of waiting that nobody needs to be told of.
_UNTOLD: Final = 2.0


class RunTracking(Watcher):
    """Passes one run's events on to a tracker, by a queue to a process of its own.

    Whatever becomes of that process, it costs the run a note.

    Args:
        kind: The tracker.
        display: Gets the note.
    """

    def __init__(self, kind: TrackerKind, display: Watcher) -> None:
        self._kind, self._display = kind, display
        self._events: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        #: None before the run, and once there is nothing to be expected of it.
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._heard = 0.0
        self._left_out = 0
        self._address = self._failed = ""

    def run_started(self, run: Path) -> None:
        """Start the process."""
        name, stamp = self._kind.name, json.dumps(file_stamp(run / Report.FILE))
        # A session of its own: a Ctrl-C in the terminal is for the training.
        self._process = subprocess.Popen(  # noqa: S603  our own module
            module_command("opsin.trackers.tracker_process", name, str(run.absolute()), stamp),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**self._kind.environment, **child_environment()},
            start_new_session=True,
        )
        for work in (self._send, self._hear):
            threading.Thread(target=work, args=[self._process], name=name, daemon=True).start()

    def epoch(self, epoch: Epoch) -> None:
        """Pass on."""
        self._add(epoch.to_json())

    def rewind(self, epochs: int) -> None:
        """Pass on."""
        self._add({"rewind": epochs})

    def run_ended(self, run: Path) -> None:  # noqa: ARG002  the process knows
        """Wait a limited time for what is left."""
        process, title = self._process, self._kind.title
        self._events.put(None)
        if process is None:
            return
        try:
            finished = self._finished()
        except KeyboardInterrupt:
            finished = False
        if not finished:
            end_group(process.pid)
            self._over.wait(_UNTOLD)
            self._display.note(
                f"{title} has not taken all of the run, which is whole in its directory "
                f"({self._kind.advice})"
            )
        elif not self._has_failed() and self._left_out:
            self._display.note(
                f"{title} was slower than the training: {self._left_out:,} events were left out, "
                "which are in the run directory"
            )
        if self._process is not None and self._address:
            self._display.fact("Tracked", f"{title} · {self._address}")
        self._process = None

    def _add(self, event: JsonObject) -> None:
        if self._process is None or self._has_failed():
            return
        if self._events.qsize() < _WAITING:
            self._events.put(json.dumps(event).encode() + b"\n")
        else:
            self._left_out += 1

    def _has_failed(self) -> bool:
        """Tell whether the process came to no good end, and say so once."""
        process = self._process
        if process is None or not self._over.is_set() or process.returncode == 0:
            return False
        reason = self._failed or f"its process ended with {exit_reason(process.returncode)}"
        self._display.note(
            f"{self._kind.title} failed ({reason}): the run goes on without it "
            f"({self._kind.advice})"
        )
        self._process = None
        return True

    def _finished(self) -> bool:
        """Wait for the process to end; ``False``: it was given up."""
        began = time.monotonic()
        told = False
        while not self._over.wait(_UNTOLD / 4):
            now = time.monotonic()
            if now - max(began, self._heard) > _SILENCE or now - began > _LONGEST:
                return False
            if not told and now - began > _UNTOLD:
                told = True
                self._display.note(
                    f"waiting for {self._kind.title} to take the rest of the run (Ctrl-C: do not "
                    "wait)"
                )
        return True

    def _send(self, process: subprocess.Popen[bytes]) -> None:
        """Hand on what comes, for as long as the process takes it."""
        stdin = cast("IO[bytes]", process.stdin)
        with contextlib.suppress(OSError), stdin:
            while (line := self._events.get()) is not None:
                stdin.write(line)
                stdin.flush()

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        """Take what the process says until it ends."""
        with cast("IO[bytes]", process.stdout) as stdout:
            for line in stdout:
                self._heard = time.monotonic()
                with contextlib.suppress(ValueError):  # it was killed while it wrote
                    said = json.loads(line)
                    self._address = said.get("address", self._address)
                    self._failed = said.get("failed", self._failed)
        process.wait()
        self._over.set()


def tracking_of(names: str | Sequence[str] | None, display: Watcher) -> list[Watcher]:
    """Return a watcher for each tracker that is named.

    Args:
        names: In one text with commas between them, or one by one.
        display: Gets notes about them.

    Raises:
        RecipeError: There is no tracker of such a name.
        MissingExtraError: Its package is not installed.
    """
    return [RunTracking(kind, display) for kind in chosen_trackers(names)]
