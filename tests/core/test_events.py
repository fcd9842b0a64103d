"""Every event reaches every watcher, and a failing observer costs a warning only."""

from __future__ import annotations

import inspect
from pathlib import Path

from opsin.core.events import Observers, Watcher, WatcherGroup


class Noted(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.runs: list[Path] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def run_started(self, run: Path) -> None:
        self.runs.append(run)


class Failing(Watcher):
    asked = 0

    def run_started(self, run: Path) -> None:
        self.asked += 1
        raise ConnectionError("no server")


def test_a_group_passes_on_every_event_there_is() -> None:
    events = {name for name, _ in inspect.getmembers(Watcher, inspect.isfunction)}
    assert events <= vars(WatcherGroup).keys()


def test_a_failing_observer_gets_no_further_events_and_the_others_do() -> None:
    display, failing, other = Noted(), Failing(), Noted()
    observers = Observers(display, [failing, other])
    observers.run_started(Path("a"))
    observers.run_started(Path("b"))
    assert failing.asked == 1
    assert other.runs == [Path("a"), Path("b")]
    assert display.notes == [
        "the observer Failing failed (ConnectionError('no server')): the work goes on without it"
    ]
