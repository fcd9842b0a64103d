"""How far a training is: one bar and one time, whoever shows it."""

import json
from pathlib import Path

import pytest

from opsin.commands.train.recorder import recorded
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import Watcher
from opsin.studio.jobs.job import Job
from opsin.studio.progress import TrainingProgress
from opsin.studio.runs.run_index import read_progress


def status(run: RunDirectory, **work: object) -> None:
    run.status.write_text(
        json.dumps({"state": "running", "pid": 1, "started": 1.0, "heartbeat": 1.0} | work)
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_a_status_that_was_tampered_with_stops_nobody(run: RunDirectory) -> None:
    status(run, doing="9" * 5000 + "/1", done=10**400, total="x", share=-1, left=10**400, pid="x")
    assert read_progress(run) is None
    status(run, doing="9" * 5000 + "/1", done=1e300, total=1e300, share=1e300, left=1e300)
    found = read_progress(run)
    assert found is not None
    assert (found.share, found.left) == (1.0, None)
    followed = TrainingProgress(Job(kind="train", title="Waste 1"))
    followed.look(found)
    assert len(followed.step) < 1000
    assert followed.left is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"doing": 3}'])
def test_a_status_that_says_nothing_is_no_progress(run: RunDirectory, content: str) -> None:
    run.status.write_text(content)
    assert read_progress(run) is None


def test_between_news_the_time_left_runs_on(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("opsin.commands.train.recorder.time.monotonic", lambda: now[0])

    def told(seconds: float) -> tuple[float | None, float | None]:
        now[0] += seconds
        recorder.doing("the checkpoint of step 7")
        found = read_progress(run)
        assert found is not None
        return found.share, found.left

    with recorded(run, Watcher()) as recorder:
        recorder.begin("1/2", 400, "images")
        now[0] = 9.0
        recorder.advance(200, share=0.25, left=30.0)
        recorder.end()
        assert told(2) == (0.25, 28.0)
        assert told(60) == (0.25, 0.0)
        recorder.begin("Disturb", 480, "images")
        recorder.end()
        assert told(2) == (1.0, None)
