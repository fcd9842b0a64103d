"""How far a training is, read from a run's own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opsin.run import RunDirectory
from opsin.studio.jobs.progress import Pace, progress_of


def status(run: RunDirectory, **work: object) -> None:
    run.status.write_text(json.dumps({"state": "running", "pid": 1, "started": 1.0} | work))


def history(run: RunDirectory, *events: tuple[int, float], of: int = 10) -> None:
    lines = [json.dumps({"epoch": n, "epochs": of, "seconds": s}) for n, s in events]
    run.history.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_inside_an_epoch(run: RunDirectory) -> None:
    status(run, doing="3/10", done=500, total=1000, unit="pictures")
    history(run, (1, 20.0), (2, 10.0))
    found = progress_of(run, Pace())
    assert found is not None
    assert (found.epoch, found.epochs, found.share) == (3, 10, 0.25)
    assert found.left == 7.5 * 15.0


def test_a_status_that_was_tampered_with_stops_nobody(run: RunDirectory) -> None:
    status(run, doing="9" * 5000 + "/1", done=10**400, total=1, unit="pictures", left=10**400)
    found = progress_of(run, Pace())
    assert found is not None
    assert (found.epoch, found.share) == (None, 0.0)


def test_the_trainings_own_estimate_wins(run: RunDirectory) -> None:
    status(run, doing="3/10", done=500, total=1000, unit="pictures", left=3.5)
    found = progress_of(run, Pace())
    assert found is not None and found.left == 3.5


def test_between_two_epochs_the_bar_stays_where_it_was(run: RunDirectory) -> None:
    status(run, doing="the checkpoint of step 7", done=0, total=0, unit="", left=None)
    history(run, *((number, 2.0) for number in range(1, 6)))
    found = progress_of(run, Pace())
    assert found is not None
    assert (found.epoch, found.share, found.left) == (6, 0.5, 10.0)


def test_after_the_last_epoch_it_says_what_it_does(run: RunDirectory) -> None:
    status(run, doing="Disturb", done=120, total=480, unit="pictures")
    history(run, (10, 2.0))
    found = progress_of(run, Pace())
    assert found is not None
    assert (found.epoch, found.doing, found.share, found.left) == (None, "Disturb", 0.25, None)


def test_a_line_that_stands_for_several_rounds(run: RunDirectory) -> None:
    status(run, doing="60/100", done=0, total=1, unit="rounds")
    history(run, *((number, 5.0) for number in (10, 20, 30, 40, 50)), of=100)
    found = progress_of(run, Pace())
    assert found is not None and found.left == 41 * 0.5


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"doing": 3}'])
def test_a_status_that_says_nothing_is_no_progress(run: RunDirectory, content: str) -> None:
    run.status.write_text(content)
    assert progress_of(run, Pace()) is None


@pytest.mark.parametrize("line", ["{", "3", '{"epoch": "x"}', '{"epoch": 1}', "\udcff"])
def test_a_strange_history_does_no_harm(run: RunDirectory, line: str) -> None:
    status(run, doing="1/2", done=1, total="x", unit="pictures")
    run.history.write_text(line + "\n", errors="surrogateescape")
    found = progress_of(run, Pace())
    assert found is not None and (found.epoch, found.share) == (1, 0.0)
