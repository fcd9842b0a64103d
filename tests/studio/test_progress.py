"""One bar and one time left for a whole training: neither jumps, and both end where it ends."""

import copy
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from opsin.core.artifacts.records import RunStatus
from opsin.studio.jobs.job import Job
from opsin.studio.progress import SOON, TrainingProgress, factor_of, time_left
from opsin.studio.ui import training_settings
from opsin.studio.ui.training_settings import levels_for

CLOCK = "opsin.studio.progress.time.monotonic"
HEAD = {"start": 5.0, "features": 9.0, "heads": 6.0, "finish": 7.0}
ESTIMATES = st.one_of(st.none(), st.floats(0, 1e6), st.just(math.inf), st.just(math.nan))


@given(st.lists(st.tuples(ESTIMATES, st.floats(0, 20)), max_size=60))
def test_the_time_left_rises_by_a_fifth_at_most(seen: list[tuple[float | None, float]]) -> None:
    before = None
    for estimate, passed in seen:
        shown = time_left(before, estimate, passed)
        if before is not None:
            assert shown is not None
            assert SOON <= shown <= 1.2 * before
        before = shown


@given(st.integers(10, 5_000))
def test_a_right_estimate_is_counted_down_as_it_is(whole: int) -> None:
    shown = None
    for second in range(whole - SOON):
        shown = time_left(shown, whole - second, 1.0 if second else 0.0)
        assert shown is not None
        assert abs(shown - (whole - second)) <= 1


@given(st.floats(20, 1_000))
def test_a_wrong_estimate_is_mended(right: float) -> None:
    shown: int | None = 10
    for _ in range(60):
        shown = time_left(shown, right, 0)
    assert shown == pytest.approx(right, rel=0.1, abs=1.5)


def training(expected: dict[str, float], **further: Any) -> Job:
    job = {"kind": "train", "title": "Waste 1", "argv": ["x"], "expected": expected} | further
    return Job.model_validate({"started": 1.0} | job if "ended" in job else job)


def status(doing: str, done: float, total: float, share: float | None) -> RunStatus:
    return RunStatus(
        state="running", pid=1, heartbeat=1.0, doing=doing, done=done, total=total, share=share
    )


WORK = st.one_of(
    st.none(),
    st.builds(status, st.sampled_from(["Features", "Heads", "3/10", "9/10", "the report"]),
              st.integers(0, 100), st.just(100), st.one_of(st.none(), st.floats(0, 1))),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(WORK, st.floats(0, 4_000)), max_size=40),
    st.sampled_from([{}, HEAD, HEAD | {"epochs": 600.0}]),
)
def test_whatever_a_training_says_nothing_jumps(
    monkeypatch: pytest.MonkeyPatch,
    said: list[tuple[RunStatus | None, float]],
    expected: dict[str, float],
) -> None:
    now = [0.0]
    monkeypatch.setattr(CLOCK, lambda: now[0])
    followed = TrainingProgress(training(expected))
    before = (followed.share, followed.left)
    for work, passed in said:  # an hour asleep too
        now[0] += passed
        followed.look(work)
        assert (before[0] or 0) <= (followed.share or 0) <= 0.99
        if before[1] is not None:
            assert followed.left is not None
            assert followed.left <= 1.2 * before[1]
        before = (followed.share, followed.left)


def test_a_training_is_shown_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(CLOCK, lambda: now[0])
    followed = TrainingProgress(training(HEAD))
    shown = []
    for second in range(40):  # half as fast as expected
        now[0] = second
        work: RunStatus | None = status("the report", 0, 0, 1.0)
        if second < 10:
            work = None
        elif second < 20:
            work = status("Features", 10 * (second - 10), 100, None)
        elif second < 30:
            work = status("Heads", 10 * (second - 20), 100, (second - 20) / 10)
        followed.look(work)
        shown.append(copy.copy(followed))
    for second in range(40, 60):
        now[0] = second
        followed.look(work)
    assert followed.left_in_words == "longer than expected"
    assert [item.left for item in (shown[0], shown[39])] == [27, SOON]
    assert shown[15].step.startswith("Looking at each photograph")
    assert 10 < (shown[15].left or 0) < 35
    assert 0.85 < (shown[39].share or 0) < 1
    assert shown[39].left_in_words == "a few seconds left"


def test_epochs_are_told_from_what_comes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(CLOCK, lambda: now[0])
    followed = TrainingProgress(training({}))
    assert (followed.share, followed.left) == (None, None)
    now[0] = 3.0
    followed.look(status("3/30", 5, 10, 0.1).model_copy(update={"left": 90.0}))
    assert followed.step == "Epoch 3 of 30"
    assert followed.left_in_words == "1:30 left"
    for second in range(4, 24):  # a step takes long, and nothing new is written
        now[0] = second
        followed.look(status("3/30", 5, 10, 0.1).model_copy(update={"left": 90.0}))
    assert followed.left_in_words == "1:10 left"
    followed.look(status("validation", 0, 0, 0.13).model_copy(update={"left": 68.0}))
    assert followed.step == "Epoch 3 of 30"


def test_a_machine_is_measured_by_its_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(at: float, **further: Any) -> Job:
        return training({**HEAD, **further.pop("also", {})}, state="done", ended=at, **further)

    assert factor_of([]) == 1.0
    assert factor_of([ended(55.0)]) == 2.0
    assert factor_of([ended(55.0, goes_on=True)]) == 1.0
    # A training with a limit of time takes that long on every machine.
    assert factor_of([ended(600.0, also={"epochs": 600.0}), ended(55.0)]) == 2.0
    monkeypatch.setattr(training_settings, "can_train_networks", lambda: False)
    quick, good, best = levels_for(120, [ended(55.0)]).values()
    assert (quick.seconds or 0) < (good.seconds or 0)
    assert best.off == "It needs PyTorch, which is not installed here."
    again = levels_for(123, [], known=120)  # no longer than the quick one
    assert list(again) == ["Good", "As good as it gets"]
    assert (again["Good"].seconds or 0) < (levels_for(123, [])["Good"].seconds or 0)
    assert levels_for(0, [])["Good"].seconds is None
