"""A run's events, sent to a tracker's process without blocking the training.

``python -m opsin.trackers.tracking NAME RUN EARLIER`` reads a line of JSON for each epoch, and
closes the run once its standard input is closed: the training is over then, however it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Final, cast

from opsin.core.artifacts.records import Epoch, TrackedRun
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RecordedRecipe, Report
from opsin.core.child_process import child_environment, exit_reason, module_command, take_output
from opsin.core.events import Watcher
from opsin.core.platform import end_group, lower_priority
from opsin.core.recipe import flat_options
from opsin.core.stored_json import JsonObject
from opsin.evaluation.metric_table import known_metrics
from opsin.trackers import Tracker, trackers

# Seconds to wait for it at the end of a run.
_PATIENCE: Final = 30.0
_LOGIN_IN_ADDRESS: Final = re.compile(r"(?<=//)[^/@\s]+@")
_SECRET: Final = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|CREDENTIAL", re.IGNORECASE)


class RunTracking(Watcher):
    """Forwards a run's events to a tracker's process; failures only cause a note to ``display``."""

    def __init__(self, tracker: type[Tracker], display: Watcher) -> None:
        self._tracker, self._display = tracker, display
        self._events: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None  # none before the run, after a failure
        self._over = threading.Event()
        self._address = self._failed = ""

    def run_started(self, run: Path) -> None:
        """Start the process."""
        name, written = self._tracker.name, _written(run / Report.FILE)
        self._process = process = subprocess.Popen(  # noqa: S603  our own module
            module_command("opsin.trackers.tracking", name, str(run.absolute()), str(written)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**self._tracker.environment, **child_environment()},
            start_new_session=True,  # Ctrl-C in the terminal is for the training
        )
        threading.Thread(target=self._talk, args=[process], name=name, daemon=True).start()

    def epoch(self, epoch: Epoch) -> None:
        """Forward it."""
        if self._works():
            self._events.put(epoch.model_dump_json(exclude_unset=True).encode() + b"\n")

    def run_ended(self, run: Path) -> None:  # noqa: ARG002  the process knows
        """Wait a moment for the process."""
        process, tracker, note = self._process, self._tracker, self._display.note
        self._events.put(None)
        if process is None:
            return
        with contextlib.suppress(KeyboardInterrupt):
            if not self._over.wait(2):
                note(f"waiting for {tracker.title} to take the run (Ctrl-C: do not wait)")
                self._over.wait(_PATIENCE)
        if not self._over.is_set():
            end_group(process.pid)
            self._over.wait(2)
            whole = "has not taken all of the run, which is whole in its directory"
            note(f"{tracker.title} {whole} ({tracker.advice})")
        elif self._works() and self._address:
            self._display.fact("Tracked", f"{tracker.title} · {self._address}")

    def _works(self) -> bool:
        """Whether the process is well; a failure is noted once."""
        process, tracker = self._process, self._tracker
        if process is not None and self._over.is_set() and process.returncode:
            reason = self._failed or f"its process ended with {exit_reason(process.returncode)}"
            lost = f"{tracker.title} failed ({reason}): the run goes on without it"
            self._display.note(f"{lost} ({tracker.advice})")
            self._process = None
        return self._process is not None

    def _talk(self, process: subprocess.Popen[bytes]) -> None:
        stdin, stdout = (cast("IO[bytes]", pipe) for pipe in (process.stdin, process.stdout))
        with contextlib.suppress(OSError), stdin:
            while (line := self._events.get()) is not None:
                stdin.write(line)
                stdin.flush()
        with contextlib.suppress(ValueError), stdout:  # it was killed while writing
            for line in stdout:
                message = json.loads(line)
                self._address = message.get("address", self._address)
                self._failed = message.get("failed", self._failed)
        process.wait()
        self._over.set()


def main(name: str, run: str, earlier: str) -> int:
    """Follow a run to its end, in the tracker's process; return the exit status."""
    output = take_output()
    lower_priority()

    def say(content: JsonObject) -> None:
        with contextlib.suppress(OSError):  # a killed training no longer listens
            output.write(json.dumps(content).encode() + b"\n")
            output.flush()

    try:
        follow(trackers()[name](), RunDirectory(run), int(earlier), sys.stdin.buffer, say)
    except Exception as error:  # noqa: BLE001  third-party code must not stop the run
        text = " ".join(without_secrets(str(error), os.environ).split())
        say({"failed": f"{type(error).__name__}: {text}"[:300].rstrip(": ")})
        return 1
    return 0


def follow(
    tracker: Tracker,
    run: RunDirectory,
    earlier: int,
    lines: Iterable[bytes],
    say: Callable[[JsonObject], None],
) -> None:
    """Log a run: options at once, each epoch as it comes, figures of a new report at the end.

    A run that goes on has an ``earlier`` report, known by when it was written.
    """
    known = run.tracked_as(tracker.name)
    recipe = flat_options(run.read(RecordedRecipe).model_dump(mode="json", exclude_unset=True))
    options = {name: value for name, value in recipe.items() if value is not None}
    tracker.start(run.path, options, known)
    if tracker.id is not None and tracker.id != known:
        run.append(TrackedRun(tracker=tracker.name, id=tracker.id))
    say({"address": without_secrets(tracker.address, os.environ)})
    for line in lines:
        if line.endswith(b"\n"):  # else the training was killed while writing
            epoch = Epoch.model_validate_json(line)
            figures = {name: value for name, value in epoch if isinstance(value, float)}
            tracker.log(epoch.epoch, figures)
    # The lock of a killed training may be released with a delay.
    until = time.monotonic() + 10
    while run.state()[0] == "running" and time.monotonic() < until:
        time.sleep(0.05)
    state, cause = run.state()
    if state != "failed" and _written(run.report) not in (0, earlier):
        report = run.read(Report)
        measured: dict[str, float | None] = {}
        for metric in known_metrics(report.judged):
            name, value = f"{report.split}/{metric.key}", metric.value(report.judged)
            low, high = metric.interval(report.judged) or (None, None)
            measured |= {name: value, f"{name}_low": low, f"{name}_high": high}
        figures = {name: value for name, value in measured.items() if value is not None}
        tracker.results(report.training.epochs, figures)
    tracker.end(state, cause)


def _written(report: Path) -> int:
    return report.stat().st_mtime_ns if report.is_file() else 0


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """A text without credentials in URLs and without the environment's secrets."""
    for name, value in environment.items():
        if len(value) > 5 and _SECRET.search(name):
            text = text.replace(value, "…")
    return _LOGIN_IN_ADDRESS.sub("", text)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
