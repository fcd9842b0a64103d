"""A run's events on their way to a tracker's process, which a training never waits for.

``python -m opsin.trackers.tracking NAME RUN STAMP`` reads a line of JSON for each epoch, and closes
the run once its standard input is closed: the training is over then, however it ended. STAMP is
that of the report that the run has from before it was resumed.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, cast

from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.records import Epoch, TrackedRun
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report
from opsin.core.child_process import child_environment, exit_reason, module_command, take_output
from opsin.core.events import Watcher
from opsin.core.files import FileStamp, file_stamp
from opsin.core.platform import end_group, lower_priority
from opsin.core.recipe import flat_options
from opsin.core.stored_json import JsonObject
from opsin.evaluation.metric_table import known_metrics
from opsin.trackers import Tracker, chosen_trackers, trackers

# Seconds without progress after which the end of a run waits no longer.
_SILENCE: Final = 30.0
_LOGIN_IN_ADDRESS: Final = re.compile(r"(?<=//)[^/@\s]+@")
_SECRET: Final = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|CREDENTIAL", re.IGNORECASE)

Say = Callable[[JsonObject], None]


def tracking_of(names: str | Sequence[str] | None, display: Watcher) -> list[Watcher]:
    """Return a watcher for each tracker that is named; ``display`` gets notes about them."""
    return [RunTracking(tracker, display) for tracker in chosen_trackers(names)]


class RunTracking(Watcher):
    """Passes a run's events on to a tracker's process; whatever becomes of it costs a note."""

    def __init__(self, tracker: type[Tracker], display: Watcher) -> None:
        self._tracker, self._display = tracker, display
        self._events: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        #: None before the run, and once there is nothing to be expected of it.
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._heard = 0.0
        self._address = self._failed = ""

    def run_started(self, run: Path) -> None:
        """Start the process."""
        name, stamp = self._tracker.name, json.dumps(file_stamp(run / Report.FILE))
        self._process = process = subprocess.Popen(  # noqa: S603  our own module
            module_command("opsin.trackers.tracking", name, str(run.absolute()), stamp),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**self._tracker.environment, **child_environment()},
            start_new_session=True,  # Ctrl-C in the terminal is for the training
        )
        for work in (self._send, self._hear):
            threading.Thread(target=work, args=[process], name=name, daemon=True).start()

    def epoch(self, epoch: Epoch) -> None:
        """Pass on."""
        self._add(epoch.to_json())

    def rewind(self, epochs: int) -> None:
        """Pass on."""
        self._add({"rewind": epochs})

    def _add(self, event: JsonObject) -> None:
        if self._process is not None and not self._has_failed():
            self._events.put(json.dumps(event).encode() + b"\n")

    def run_ended(self, run: Path) -> None:  # noqa: ARG002  the process knows
        """Wait for the process for as long as it makes progress."""
        process, title = self._process, self._tracker.title
        self._events.put(None)
        if process is None:
            return
        if not self._finished():
            end_group(process.pid)
            self._over.wait(2)
            self._display.note(
                f"{title} has not taken all of the run, which is whole in its directory "
                f"({self._tracker.advice})"
            )
        elif self._has_failed():
            return
        if self._address:
            self._display.fact("Tracked", f"{title} · {self._address}")
        self._process = None

    def _finished(self) -> bool:
        """Wait for the process to end; false where it is silent, or Ctrl-C ends the waiting."""
        began = time.monotonic()
        try:
            if not self._over.wait(2):
                self._display.note(
                    f"waiting for {self._tracker.title} to take the rest of the run (Ctrl-C: do "
                    "not wait)"
                )
            while not self._over.wait(0.5):
                if time.monotonic() - max(began, self._heard) > _SILENCE:
                    return False
        except KeyboardInterrupt:
            return False
        return True

    def _has_failed(self) -> bool:
        """Tell whether the process ended badly, and say so once."""
        process = self._process
        if process is None or not self._over.is_set() or process.returncode == 0:
            return False
        reason = self._failed or f"its process ended with {exit_reason(process.returncode)}"
        self._display.note(
            f"{self._tracker.title} failed ({reason}): the run goes on without it "
            f"({self._tracker.advice})"
        )
        self._process = None
        return True

    def _send(self, process: subprocess.Popen[bytes]) -> None:
        stdin = cast("IO[bytes]", process.stdin)
        with contextlib.suppress(OSError), stdin:
            while (line := self._events.get()) is not None:
                stdin.write(line)
                stdin.flush()

    def _hear(self, process: subprocess.Popen[bytes]) -> None:
        with cast("IO[bytes]", process.stdout) as stdout:
            for line in stdout:
                self._heard = time.monotonic()
                with contextlib.suppress(ValueError):  # it was killed while it wrote
                    said = json.loads(line)
                    self._address = said.get("address", self._address)
                    self._failed = said.get("failed", self._failed)
        process.wait()
        self._over.set()


def main(name: str, run: str, stamp: str) -> int:
    """Follow a run to its end, in the tracker's process; return the exit status."""
    output = take_output()
    lower_priority()

    def say(content: JsonObject) -> None:
        # A training that was killed listens no more; what it sent before is shown all the same.
        with contextlib.suppress(OSError):
            output.write(json.dumps(content).encode() + b"\n")
            output.flush()

    try:
        earlier = FileStamp(*json.loads(stamp))
        follow(trackers()[name](), RunDirectory(run), earlier, sys.stdin.buffer, say)
    except Exception as error:  # noqa: BLE001  it is another's code, and the run goes on
        text = " ".join(without_secrets(str(error), os.environ).split())
        say({"failed": f"{type(error).__name__}: {text}"[:300].rstrip(": ")})
        return 1
    return 0


def follow(
    tracker: Tracker, run: RunDirectory, earlier: FileStamp, lines: Iterable[bytes], say: Say
) -> None:
    """Show a run: its options at once, each epoch as it comes, at the end what is new."""
    known = run.tracked_as(tracker.name)
    recipe = flat_options(run.read(RecordedRecipe).to_json())
    options = {name: value for name, value in recipe.items() if value is not None}
    tracker.start(run.path, options, known)
    if tracker.id is not None and tracker.id != known:
        run.append(TrackedRun(tracker=tracker.name, id=tracker.id))
    say({"address": without_secrets(tracker.address, os.environ)})
    for line in lines:
        if not line.endswith(b"\n"):
            break  # the training was killed while it wrote
        event = json.loads(line)
        if "rewind" in event:
            tracker.rewind(event["rewind"])
        else:
            epoch = Epoch.model_validate(event)
            figures = {name: value for name, value in epoch if isinstance(value, float)}
            norms = {f"norms/{layer}": norm for layer, norm in epoch.norms.items()}
            tracker.epoch(epoch.epoch, figures | norms)
        say({})
    if file_stamp(run.report) != earlier:
        report = run.read(Report)
        tracker.results(report, _figures_of(report))
        for file in sorted(run.figures.glob("*.png")):
            if file.is_file() and not file.is_symlink():
                tracker.picture(f"{run.figures.name}/{file.stem}", file)
                say({})
    # The system may take a moment to free the lock of a killed training.
    until = time.monotonic() + 10
    while run.state()[0] == "running" and time.monotonic() < until:
        time.sleep(0.05)
    tracker.end(*run.state())


def _figures_of(report: Report) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in known_metrics(report.judged):
        name = f"{report.split}/{metric.key}"
        value, interval = metric.value(report.judged), metric.interval(report.judged)
        if value is not None:
            found[name] = value
        if interval is not None:
            found[f"{name}_low"], found[f"{name}_high"] = interval
    return found


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Return a text without logins in addresses and without the environment's secrets."""
    for name, value in environment.items():
        if len(value) > 5 and _SECRET.search(name):
            text = text.replace(value, "…")
    return _LOGIN_IN_ADDRESS.sub("", text)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
