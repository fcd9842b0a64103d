"""One bar and one time left for a whole training: neither jumps, and both end where it ends."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("filelock")

from opsin.core.artifacts.records import RunStatus
from opsin.studio.jobs.job import Job, new_job, read_job, write_job
from opsin.studio.progress import SOON, TimeLeft, _Followed, factor_of
from opsin.studio.ui import training_levels
from opsin.studio.ui.training_levels import levels_for

CLOCK = "opsin.studio.progress.time.monotonic"
HEAD = {"start": 5.0, "features": 9.0, "heads": 6.0, "finish": 7.0}
ESTIMATES = st.one_of(st.none(), st.floats(0, 1e6), st.just(math.inf), st.just(math.nan))


@given(st.lists(st.tuples(ESTIMATES, st.floats(0, 20)), max_size=60))
def test_the_time_left_never_rises_by_more_than_a_fifth(
    seen: list[tuple[float | None, float]],
) -> None:
    time_left, before = TimeLeft(), None
    for estimate, passed in seen:
        shown = time_left.see(estimate, passed)
        if before is not None:
            assert shown is not None
            assert SOON <= shown <= 1.2 * before
        before = shown


@given(st.integers(10, 5_000))
def test_a_right_estimate_is_counted_down_as_it_is(whole: int) -> None:
    time_left = TimeLeft()
    for second in range(whole - SOON):
        shown = time_left.see(whole - second, 1.0 if second else 0.0)
        assert shown is not None
        assert abs(shown - (whole - second)) <= 1


@given(st.floats(20, 1_000))
def test_a_wrong_estimate_is_mended(right: float) -> None:
    time_left = TimeLeft()
    time_left.see(10, 0)
    for _ in range(60):
        shown = time_left.see(right, 0)
    assert shown == pytest.approx(right, rel=0.1, abs=1.5)


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
    followed = _Followed(new_job("train", "Waste 1", ["x"], expected=expected), 1.0)
    before = followed.progress
    for work, passed in said:  # an hour asleep too
        now[0] += passed
        followed.look(work)
        after = followed.progress
        assert (after.share or 0) >= (before.share or 0)
        assert (after.share or 0) <= 0.99
        if before.left is not None:
            assert after.left is not None
            assert after.left <= 1.2 * before.left
        before = after


def test_a_training_is_shown_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(CLOCK, lambda: now[0])
    followed = _Followed(new_job("train", "Waste 1", ["x"], expected=HEAD), 1.0)
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
        shown.append(followed.progress)
    for second in range(40, 60):
        now[0] = second
        followed.look(work)
    assert followed.progress.left_in_words == "longer than expected"
    assert [item.left for item in (shown[0], shown[39])] == [27, SOON]
    assert shown[15].step.startswith("Looking at each photograph")
    assert 10 < (shown[15].left or 0) < 35
    assert 0.85 < (shown[39].share or 0) < 1
    assert shown[39].left_in_words == "a few seconds left"


def test_epochs_are_told_from_what_comes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(CLOCK, lambda: now[0])
    followed = _Followed(new_job("train", "Waste 1", ["x"]), 1.0)
    assert (followed.progress.share, followed.progress.left) == (None, None)
    now[0] = 3.0
    followed.look(status("3/30", 5, 10, 0.1).model_copy(update={"left": 90.0}))
    assert followed.progress.step == "Epoch 3 of 30"
    assert followed.progress.left_in_words == "1:30 left"
    for second in range(4, 24):  # a step takes long, and nothing new is written
        now[0] = second
        followed.look(status("3/30", 5, 10, 0.1).model_copy(update={"left": 90.0}))
    assert followed.progress.left_in_words == "1:10 left"
    followed.look(status("validation", 0, 0, 0.13).model_copy(update={"left": 68.0}))
    assert followed.progress.step == "Epoch 3 of 30"


def test_a_machine_is_measured_by_its_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    job = replace(new_job("train", "", ["x"], expected=HEAD), state="done", started=1.0)
    assert factor_of([]) == 1.0
    assert factor_of([replace(job, ended=55.0)]) == 2.0
    assert factor_of([replace(job, ended=55.0, goes_on=True)]) == 1.0
    # A training with a limit of time takes that long on every machine.
    limited = replace(job, ended=600.0, expected=HEAD | {"epochs": 600.0})
    assert factor_of([limited, replace(job, ended=55.0)]) == 2.0
    monkeypatch.setattr(training_levels, "can_train_networks", lambda: False)
    monkeypatch.setattr(training_levels, "has_pretrained", lambda: True)
    quick, good, best = levels_for(120, [replace(job, ended=55.0)])
    assert (quick.seconds or 0) < (good.seconds or 0)
    assert best.off == "It needs PyTorch, which is not installed here."
    first = [level.seconds for level in levels_for(123, [])]
    quick, good, _ = levels_for(123, [], known=120)
    assert (quick.seconds or 0) < (first[0] or 0) and (good.seconds or 0) < (first[1] or 0)
    # What one network knows of the photographs helps no other.
    quick, good, _ = levels_for(123, [], known=120, network="efficientnet-lite2")
    assert quick.seconds == first[0] and (good.seconds or 0) < (first[1] or 0)
    assert levels_for(None, [])[1].seconds is None


def test_a_job_keeps_its_project_and_older_ones_are_read(tmp_path: Path) -> None:
    job = new_job("train", "Waste 1", ["x"], project="p", expected=HEAD)
    (tmp_path / job.id).mkdir()
    write_job(tmp_path / job.id, job)
    assert read_job(tmp_path / job.id) == job
    older = '{"kind": "train", "title": "digits", "argv": ["x"], "created": 1.0}'
    (tmp_path / job.id / "job.json").write_text(older, encoding="utf-8")
    read = read_job(tmp_path / job.id)
    assert read == Job(job.id, "train", "digits", ("x",), 1.0)
