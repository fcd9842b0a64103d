"""What a tracker is given of a run, and in which order."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from opsin.core.artifacts.records import State
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.data.dataset import Dataset
from opsin.trackers import Tracker
from opsin.trackers.tensorboard import TensorBoardTracker
from opsin.trackers.tracking import follow, without_secrets
from tests.made_runs import answers_right, made_epoch, write_run
from tests.tracker_stores import tensorboard_events


class Noting(Tracker):
    name = "noting"

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def start(self, run: Path, options: Mapping[str, Any], known: str | None) -> None:
        self.given.append(("start", run.name, options["model"], known))
        self.id = known or "run-7"
        self.address = "https://ann:s3cret@tracker.example/run-7"

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        self.given.append(("log", epoch, *list(figures)[:3]))

    def end(self, state: State, cause: str | None) -> None:
        self.given.append(("end", state, cause))


@pytest.fixture
def made(digits: Dataset, tmp_path: Path) -> RunDirectory:
    return RunDirectory(write_run(tmp_path, "made", digits, answers_right(digits, 0.9)))


def followed(
    run: RunDirectory, *lines: bytes, earlier: int = 0
) -> tuple[list[tuple[Any, ...]], list[Any]]:
    tracker = Noting()
    said: list[Any] = []
    follow(tracker, run, earlier, lines, said.append)
    return tracker.given, said


def line(event: Any) -> bytes:
    return json.dumps(event).encode() + b"\n"


def test_a_tracker_gets_options_epochs_figures_and_the_end(made: RunDirectory) -> None:
    epochs = [line(made_epoch(number).model_dump(mode="json")) for number in (1, 2)]
    given, said = followed(made, epochs[0], *epochs, epochs[1][:-9])
    assert given[0] == ("start", "made", "mlp", None)
    assert [each[:3] for each in given[1:4]] == [("log", n, "train_loss") for n in (1, 1, 2)]
    assert given[4][2:] == ("test/accuracy", "test/accuracy_low", "test/accuracy_high")
    assert given[5:] == [("end", "done", None)]
    assert said == [{"address": "https://tracker.example/run-7"}]
    assert made.tracked_as("noting") == "run-7"
    again, _ = followed(made, earlier=made.report.stat().st_mtime_ns)
    assert again == [("start", "made", "mlp", "run-7"), ("end", "done", None)]
    assert len(made.trackers.read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["../../etc", "", "a/b", "x" * 200, 7, None])
def test_a_strangers_name_of_a_run_is_not_believed(made: RunDirectory, name: Any) -> None:
    content = [{"tracker": "noting", "id": "ours"}, {"tracker": "noting", "id": name}]
    made.trackers.write_bytes(b"".join(map(line, content)) + b"half a li")
    assert made.tracked_as("noting") == "ours"
    assert made.tracked_as("other") is None


def test_secrets_are_not_shown() -> None:
    secrets = {
        "WANDB_API_KEY": "0123456789abcdef",
        "HOME": "/home/ann",
        "MLFLOW_TRACKING_TOKEN": "",
    }
    text = "https://ann:pw@host/x said 0123456789abcdef in /home/ann"
    assert without_secrets(text, secrets) == "https://host/x said … in /home/ann"


def test_tensorboard_keeps_the_last_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path.parent)
    for epochs in ((1, 2, 3), (3, 3), ()):
        tracker = TensorBoardTracker()
        tracker.start(tmp_path, {}, None)
        for epoch in epochs:
            tracker.log(epoch, {"val_loss": 0.5})
        tracker.results(2 if epochs else 3, {"test/accuracy": 0.5})
        tracker.end("done", None)
        assert tracker.address == "tensorboard --logdir ."
    shown = tensorboard_events(tmp_path)
    assert [point.step for point in shown.Scalars("val_loss")] == [1, 2, 3]
    assert {point.step for point in shown.Scalars("test/accuracy")} == {3}
