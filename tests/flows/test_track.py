"""`--track`: the real TensorBoard, MLflow with its server, and W&B offline."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.core.recipe import flat_options
from tests.conftest import Notes
from tests.tracker_stores import MLflowServer, mlflow_serving, tensorboard_events, wandb_records
from tests.warm import Warm

pytestmark = pytest.mark.torch

ALL = "tensorboard,mlflow,wandb"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    with mlflow_serving(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def stores(
    server: MLflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[MLflowServer, Path]:
    """Set where trackers send to: the server, and a folder of the test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_PROJECT", "digits-of-the-tests")
    return server, tmp_path


def options_of(run: opsin.Run) -> dict[str, Any]:
    recipe = flat_options(json.loads(run.directory.recipe.read_text()))
    return {name: value for name, value in recipe.items() if value is not None}


def judged(run: opsin.Run) -> dict[str, float]:
    figures = run.figures
    low, _ = figures.intervals["log_loss"]
    return {
        "test/accuracy": figures.accuracy,
        "test/accuracy_low": figures.low,
        "test/log_loss": figures.log_loss or 0.0,
        "test/log_loss_low": low,
    }


def check_tensorboard(run: opsin.Run) -> None:
    shown = tensorboard_events(run.path)
    for figure in ("train_loss", "val_accuracy", "learning_rate"):
        points = [(point.step, point.value) for point in shown.Scalars(figure)]
        assert points == [(e.epoch, pytest.approx(getattr(e, figure))) for e in run.history]
    for figure, value in judged(run).items():
        assert shown.Scalars(figure)[-1].value == pytest.approx(value)


def check_hyperparameters(run: opsin.Run) -> None:
    from tensorboard.plugins.hparams import metadata

    content = tensorboard_events(run.path).summary_metadata
    started = metadata.parse_session_start_info_plugin_data(
        content["_hparams_/session_start_info"].plugin_data.content
    )
    assert started.hparams["epochs"].number_value == 2
    assert started.hparams["optimizer"].string_value == options_of(run)["optimizer"]
    assert json.loads(started.hparams["hidden"].string_value) == options_of(run)["hidden"]


def check_mlflow(run: opsin.Run, server: MLflowServer, row: dict[str, Any]) -> None:
    params = {each["key"]: each["value"] for each in row["data"]["params"]}
    assert params == {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in options_of(run).items()
    }
    metrics = {each["key"]: each["value"] for each in row["data"]["metrics"]}
    assert judged(run).items() <= metrics.items()
    points: list[Any] = server.history(row["info"]["run_id"], "val_loss")
    assert points == [(epoch.epoch, pytest.approx(epoch.val_loss)) for epoch in run.history]
    assert row["info"]["status"] == "FINISHED"


def shown_in(items: Any) -> dict[str, Any]:
    """Return the values of a record of W&B's by name; of nested ones, any part."""
    return {
        item.nested_key[0] if item.nested_key else item.key: json.loads(item.value_json)
        for item in items
    }


def check_wandb(run: opsin.Run, folder: Path) -> None:
    records = wandb_records(folder)
    (begun,) = [record.run for record in records if record.HasField("run")]
    assert (begun.display_name, begun.project) == (run.path.name, "digits-of-the-tests")
    assert not begun.HasField("git")
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert {key: config.get(key) for key in options_of(run)} == options_of(run)
    rows = [shown_in(record.history.item) for record in records if record.HasField("history")]
    shown = [(row["epoch"], row["val_loss"]) for row in rows if "val_loss" in row]
    assert shown == [(epoch.epoch, epoch.val_loss) for epoch in run.history]
    summary: dict[str, Any] = {}
    for record in records:
        summary |= shown_in(record.summary.update)
    assert judged(run).items() <= summary.items()
    assert summary["state"] == "done"
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    kept = {file.name for file in (folder / "wandb").rglob("*") if file.is_file()}
    assert not {"requirements.txt", "wandb-metadata.json", "output.log"} & kept


@pytest.mark.slow
def test_a_training_is_shown_in_three_trackers_and_comes_to_the_same_weights(
    stores: tuple[MLflowServer, Path],
) -> None:
    server, folder = stores
    told = Notes()
    options: dict[str, Any] = {"model": "mlp", "epochs": 2, "watcher": told}
    run = opsin.train("digits", track=ALL, runs=folder / "runs", **options)
    assert told.notes == [note for note in told.notes if note.startswith("waiting for")]
    check_tensorboard(run)
    check_hyperparameters(run)
    check_mlflow(run, server, server.runs(folder.name)[run.path.name])
    check_wandb(run, folder)
    alone = opsin.train("digits", runs=folder / "alone", **options)
    assert run.directory.classifier.read_bytes() == alone.directory.classifier.read_bytes()
    assert not list(alone.path.glob("*tfevents*")) and not alone.directory.trackers.exists()


@pytest.mark.slow
def test_a_training_that_ctrl_c_stopped_goes_on_in_its_trackers(
    warm: Warm, stores: tuple[MLflowServer, Path]
) -> None:
    server, folder = stores
    trackers = "tensorboard,mlflow"
    words = ["train", "digits", "--model", "mlp", "--epochs", "300", "--track", trackers]
    with warm.start(words, cwd=folder) as begun:
        while not any(folder.glob("runs/*/history.jsonl")):
            assert begun.poll() is None, begun.wait().stderr
            time.sleep(0.02)
        begun.send_signal(signal.SIGINT)
        done = begun.wait()
    assert done.returncode == 130, done.stderr
    (run,) = opsin.list_runs(folder / "runs")
    stopped = len(run.history)
    assert stopped < 300
    (row,) = server.runs(folder.name).values()
    assert row["info"]["status"] == "KILLED"
    check_tensorboard(run)
    assert f"Tracked   MLflow · {server.url}/#/experiments/" in done.stderr

    told = Notes(interrupt_at=30, training=True)
    opsin.resume(run, track=trackers, watcher=told)
    assert len(run.history) >= stopped
    (row,) = server.runs(folder.name).values()  # the same one
    assert run.directory.tracked_as("mlflow") == row["info"]["run_id"]
    check_tensorboard(run)  # no epoch twice
