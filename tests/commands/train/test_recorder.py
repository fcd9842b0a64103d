"""A run's files say how far it is, and keep every epoch through crash and resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from opsin.commands.train import recorder as module
from opsin.commands.train.recorder import recorded
from opsin.core.artifacts.records import Epoch, JudgedImages, RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import Watcher
from tests.made_runs import made_epoch


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "counted")


def test_how_far_it_is_stands_in_the_status(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HEARTBEAT", 0.0)
    with recorded(directory, Watcher()) as recorder:
        recorder.begin("2/5", 400, "images")
        recorder.advance(100, loss=0.5, acc=float("nan"), share=0.25, left=7.0)
        status = json.loads(directory.status.read_text(), parse_constant=pytest.fail)
        assert (status["doing"], status["done"], status["total"]) == ("2/5", 100, 400)
        assert (status["share"], status["left"]) == (0.25, 7.0)
        assert status["figures"] == {"loss": 0.5}  # what is no number is left out
        assert directory.state() == ("running", None)
        recorder.doing("validation")
        assert json.loads(directory.status.read_text())["doing"] == "2/5"
        recorder.end()
        recorder.doing("the export")
        status = json.loads(directory.status.read_text())
        assert (status["doing"], status["total"]) == ("the export", 0)
        began = status["started"]
    status = json.loads(directory.status.read_text())
    assert (status["state"], status["started"]) == ("done", began)
    assert "doing" not in status
    assert not list(directory.path.glob(".status*"))


def test_images_that_are_judged_are_kept_until_all_are(directory: RunDirectory) -> None:
    with recorded(directory, Watcher()) as recorder:
        recorder.judged([3, 1], [True, False])
        recorder.judged([0, 2], [True, True])
        judged = directory.read(JudgedImages)
    assert judged.rows == [3, 1, 0, 2]
    assert judged.right == [True, False, True, True]


def test_a_full_disk_does_not_end_the_work_for_a_sign_of_life(directory: RunDirectory) -> None:
    directory.set_status("running")
    (directory.path / ".status.json.next").mkdir()
    directory.show_progress(doing="1/1", done=1, total=2, unit="images")
    assert directory.read(RunStatus).state == "running"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    epochs=st.integers(1, 6), first=st.integers(1, 3), keep=st.integers(0, 6), killed=st.booleans()
)
def test_a_rewind_keeps_the_first_epochs(
    tmp_path_factory: pytest.TempPathFactory, epochs: int, first: int, keep: int, killed: bool
) -> None:
    directory = RunDirectory.create(tmp_path_factory.mktemp("runs"), "kept")
    with recorded(directory, Watcher()) as recorder:
        for number in range(first, first + epochs):
            recorder.epoch(made_epoch(number))
        if killed:  # in the line
            with directory.history.open("a") as file:
                file.write('{"epoch":7,"ste')
        recorder.rewind(keep)
        kept = [event.epoch for event in directory.lines(Epoch)]
        assert kept == list(range(first, first + min(keep, epochs)))
        # What is added now stands in a line of its own.
        recorder.epoch(made_epoch(first + len(kept)))
        assert directory.lines(Epoch)[-1].epoch == first + len(kept)
