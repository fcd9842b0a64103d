"""The process that shows one run in one tracker.

It is started as ``python -m opsin.trackers.tracker_process NAME RUN STAMP``, reads a line of JSON
for each epoch, and closes the run when its standard input is closed: the training is over then,
however it ended. STAMP is that of the report that the run has from before it went on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opsin.core.artifacts.epoch import Epoch
from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report
from opsin.core.artifacts.run_status import State
from opsin.core.artifacts.tracked_run import TrackedRun
from opsin.core.child_process import take_output
from opsin.core.file_stamp import FileStamp, file_stamp
from opsin.core.operating_system import lower_priority
from opsin.core.recipe import flat_options
from opsin.core.stored_json import JsonObject
from opsin.evaluation.metric_table import known_metrics
from opsin.trackers import trackers
from opsin.trackers.tracker import Tracker, TrackerKind, figures_of_epoch

# Characters of a failure's reason.
_LONGEST: Final = 300
# Seconds that the system may take to free what a killed process held.
_DYING: Final = 10.0
_LOGIN_IN_ADDRESS: Final = re.compile(r"(?<=//)[^/@\s]+@")
_SECRET: Final = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|CREDENTIAL", re.IGNORECASE)

Say = Callable[[JsonObject], None]


def main(name: str, run: str, stamp: str) -> int:
    """Follow a run to its end; return the exit status."""
    output = take_output()
    lower_priority()

    def say(content: JsonObject) -> None:
        # A training that was killed listens no more; what it sent before is shown all the same.
        with contextlib.suppress(OSError):
            output.write(json.dumps(content).encode() + b"\n")
            output.flush()

    try:
        earlier = FileStamp(*json.loads(stamp))
        follow(trackers()[name], RunDirectory(run), earlier, sys.stdin.buffer, say)
    except Exception as error:  # noqa: BLE001  it is another's code, and the run goes on
        say({"failed": reason_of(error, os.environ)})
        return 1
    return 0


def follow(
    kind: TrackerKind, run: RunDirectory, earlier: FileStamp, lines: Iterable[bytes], say: Say
) -> None:
    """Show a run: its options at once, each epoch as it comes, and at the end the rest.

    Args:
        kind: Where.
        run: The run, which has its recipe.
        earlier: The report that is there from before, whose figures are no news.
        lines: What `opsin.trackers.run_tracking` sends.
        say: Called after each step, so that it is known to be alive.
    """
    tracker = kind.open()
    known = run.tracked_as(kind.name)
    recipe = flat_options(run.read(RecordedRecipe).to_json())
    options = {name: value for name, value in recipe.items() if value is not None}
    tracker.start(run.path, options, known)
    if tracker.id is not None and tracker.id != known:
        run.log_tracked(TrackedRun(tracker=kind.name, id=tracker.id))
    say({"address": shown(tracker.address, os.environ)})
    for line in lines:
        if not line.endswith(b"\n"):
            break  # the training was killed while it wrote
        event = json.loads(line)
        if "rewind" in event:
            tracker.rewind(event["rewind"])
        else:
            epoch = Epoch.model_validate(event)
            tracker.epoch(epoch.epoch, figures_of_epoch(epoch))
        say({})
    if file_stamp(run.report) != earlier:
        _show_results(tracker, run, say)
    tracker.end(*_how_it_ended(run))


def _show_results(tracker: Tracker, run: RunDirectory, say: Say) -> None:
    report = run.read(Report)
    tracker.results(report, figures_of_report(report))
    for file in sorted(run.figures.glob("*.png")):
        if file.is_file() and not file.is_symlink():
            tracker.picture(f"{run.figures.name}/{file.stem}", file)
            say({})


def _how_it_ended(run: RunDirectory) -> tuple[State, str | None]:
    """Return state and cause; a killed process may lose its lock a moment after its pipe."""
    until = time.monotonic() + _DYING
    while (found := run.state())[0] == "running" and time.monotonic() < until:
        time.sleep(0.05)
    return found


def figures_of_report(report: Report) -> dict[str, float]:
    """Return the figures that the verdict rests on, by part and name, with their 95% intervals.

    Example:
        >>> figures = {"test": {"accuracy": 0.9, "low": 0.8, "high": 0.95}}
        >>> figures_of_report(Report.model_validate({"split": "test", "figures": figures}))
        {'test/accuracy': 0.9, 'test/accuracy_low': 0.8, 'test/accuracy_high': 0.95}
    """
    found: dict[str, float] = {}
    for metric in known_metrics(report.judged):
        name = f"{report.split}/{metric.key}"
        value, interval = metric.value(report.judged), metric.interval(report.judged)
        if value is not None:
            found[name] = value
        if interval is not None:
            found[f"{name}_low"], found[f"{name}_high"] = interval
    return found


def reason_of(error: Exception, environment: Mapping[str, str]) -> str:
    """Say in one line what failed, without what an environment holds in secret.

    Example:
        >>> reason_of(ValueError("no http://ann:s3cret@host with k-12345"), {"API_KEY": "k-12345"})
        'ValueError: no http://host with …'
    """
    text = shown(str(error), environment)
    return f"{type(error).__name__}: {' '.join(text.split())}"[:_LONGEST].rstrip(": ")


def shown(text: str, environment: Mapping[str, str]) -> str:
    """Return a text without logins in addresses, and without what an environment keeps secret."""
    for name, value in environment.items():
        if len(value) > 5 and _SECRET.search(name):
            text = text.replace(value, "…")
    return _LOGIN_IN_ADDRESS.sub("", text)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
