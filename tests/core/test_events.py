"""Every event reaches every watcher, and a failing observer costs a warning only."""

import inspect

import pytest
from hypothesis import given, strategies as st

import opsin
from opsin.core.events import Pace, Watcher, WatcherGroup
from opsin.core.format import seconds_of
from tests.conftest import Notes
from tests.made_runs import made_epoch


class Failing(Notes):
    def epoch(self, epoch: opsin.Epoch) -> None:
        super().epoch(epoch)
        raise ConnectionError("no server")


def test_a_group_passes_on_every_event_there_is() -> None:
    events = {name for name, _ in inspect.getmembers(Watcher, inspect.isfunction)}
    assert events <= vars(WatcherGroup).keys()


def test_a_failing_observer_gets_no_further_events_and_the_others_do() -> None:
    display, failing, other = Notes(), Failing(), Notes()
    observers = WatcherGroup(failing, other, display=display)
    epochs = [made_epoch(1), made_epoch(2)]
    for epoch in epochs:
        observers.epoch(epoch)
    assert failing.epochs == epochs[:1]
    assert other.epochs == epochs
    (note,) = display.notes
    assert "Failing failed (ConnectionError('no server'))" in note


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 100)), max_size=20))
def test_a_time_is_never_below_zero(steps: list[tuple[float, float]]) -> None:
    pace, now, done = Pace(500.0, now=0.0), 0.0, 0.0
    for seconds, more in steps:
        now, done = now + seconds, done + more
        pace.saw(done, now)
        assert pace.left is None or pace.left >= 0


@given(
    speed=st.floats(0.5, 1e4),
    each=st.floats(0.1, 5),
    steps=st.integers(45, 200),
    warm_up=st.floats(0, 2),
)
def test_even_work_is_foretold_to_its_end(
    speed: float, each: float, steps: int, warm_up: float
) -> None:
    total = 2 * steps * each * speed
    pace = Pace(total, now=0.0)
    for step in range(1, steps + 1):
        pace.saw(step * each * speed, now=warm_up + step * each)
    assert pace.left is not None
    assert abs(pace.left - steps * each) < 1e-3 * steps * each + 0.01


@given(hours=st.integers(0, 30), minutes=st.integers(0, 90), seconds=st.integers(1, 90))
def test_times_are_read(hours: int, minutes: int, seconds: int) -> None:
    total = 3600 * hours + 60 * minutes + seconds
    assert seconds_of(f"{hours}h{minutes}m{seconds}s") == total
    assert seconds_of(f" {total} ") == seconds_of(total) == seconds_of(float(total)) == total


@pytest.mark.parametrize(
    "text",
    ["", "0", "0m", "soon", "-5m", "10 apples", "5m1h", "1h30", "nan", "inf", "1e400", "٣m",
     float("nan"), float("inf"), -1.0],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str | float) -> None:
    with pytest.raises(opsin.RecipeError, match="10m, 90s"):
        seconds_of(text)
