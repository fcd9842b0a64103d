"""What a tracker is given of a run, and in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from opsin.core.artifacts.records import State
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report
from opsin.core.files import file_stamp
from opsin.data.dataset import Dataset
from opsin.trackers import Tracker
from opsin.trackers.tracking import follow, without_secrets
from tests.made_epochs import made_epoch
from tests.made_runs import answers_right, write_run


class Noting(Tracker):
    """Keeps what it is given."""

    name = "noting"

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def start(self, run: Path, options: Mapping[str, Any], known: str | None) -> None:
        self.given.append(("start", run.name, options["model"], known))
        self.id = known or "run-7"
        self.address = "https://ann:s3cret@tracker.example/run-7"

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        self.given.append(("epoch", number, figures["val_accuracy"]))

    def rewind(self, epochs: int) -> None:
        self.given.append(("rewind", epochs))

    def results(self, report: Report, figures: Mapping[str, float]) -> None:
        self.given.append(("results", *figures))

    def picture(self, name: str, file: Path) -> None:
        self.given.append(("picture", name, file.name))

    def end(self, state: State, cause: str | None) -> None:
        self.given.append(("end", state, cause))


@pytest.fixture
def made(digits: Dataset, tmp_path: Path) -> RunDirectory:
    return RunDirectory(write_run(tmp_path, "made", digits, answers_right(digits, 0.9)))


def followed(run: RunDirectory, *lines: bytes) -> tuple[list[tuple[Any, ...]], list[Any]]:
    tracker = Noting()
    said: list[Any] = []
    follow(tracker, run, file_stamp(run.report), lines, said.append)
    return tracker.given, said


def line(event: Any) -> bytes:
    return json.dumps(event).encode() + b"\n"


def test_what_is_there_from_before_it_went_on_is_not_shown_again(made: RunDirectory) -> None:
    epochs = [line(made_epoch(number).to_json()) for number in (1, 2)]
    given, said = followed(made, epochs[0], line({"rewind": 0}), *epochs, epochs[1][:-9])
    first, second = (made_epoch(number).val_accuracy for number in (1, 2))
    assert given == [
        ("start", "made", "mlp", None),
        ("epoch", 1, first), ("rewind", 0), ("epoch", 1, first), ("epoch", 2, second),
        ("end", "done", None),
    ]  # fmt: skip
    assert said[0] == {"address": "https://tracker.example/run-7"}
    assert made.tracked_as("noting") == "run-7"
    again, _ = followed(made)
    assert again[0] == ("start", "made", "mlp", "run-7")
    assert len(made.trackers.read_text().splitlines()) == 1


def test_results_and_pictures_follow_the_epochs(made: RunDirectory) -> None:
    made.figures.mkdir(exist_ok=True)
    for file in made.figures.glob("*.png"):
        file.unlink()
    (made.figures / "roc.png").write_bytes(b"png")
    (made.figures / "of-a-stranger.png").symlink_to(made.recipe)
    written = made.report.read_bytes()

    def lines() -> Any:
        yield line(made_epoch(1).to_json())
        made.report.write_bytes(written + b"\n")  # while it trains

    tracker = Noting()
    follow(tracker, made, file_stamp(made.report), lines(), lambda _: None)
    (_, _, results, picture, end) = tracker.given
    assert results[:4] == ("results", "test/accuracy", "test/accuracy_low", "test/accuracy_high")
    assert picture == ("picture", "figures/roc", "roc.png")
    assert end == ("end", "done", None)


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
