"""Whatever becomes of a tracker costs a training one line."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import opsin
from opsin.trackers import tracking
from tests.conftest import Notes
from tests.tracker_stores import tensorboard_events

pytestmark = pytest.mark.torch

WHOLE = "which is whole in its directory"


@pytest.fixture(autouse=True)
def _no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what this machine is set to."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "WANDB_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes every connection, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def train(told: opsin.Watcher, track: str, **options: Any) -> opsin.Run:
    before = set(psutil.Process().children())
    made = opsin.train(
        "digits", model="logistic", classes=["0", "1"], track=track, watcher=told, **options
    )
    assert made.directory.state() == ("done", None)
    assert set(psutil.Process().children()) <= before, "a tracker's process is left"
    return made


def only(notes: list[str]) -> str:
    (note,) = [note for note in notes if not note.startswith("waiting for")]
    assert "\n" not in note
    return note


def test_a_server_that_is_not_there_costs_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:s3cret@127.0.0.1:{port}")
    told = Notes()
    train(told, "mlflow")
    note = only(told.notes)
    assert note.startswith("MLflow failed (MlflowException: ")
    assert note.endswith("see that its server runs, and that MLFLOW_TRACKING_URI names it)")
    assert "s3cret" not in note


@pytest.mark.slow
def test_a_silent_server_is_left_alone(silent_server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_PATIENCE", 1.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_server}")
    told = Notes()
    train(told, "mlflow")
    assert [note[:18] for note in told.notes[:-1]] == ["waiting for MLflow"]
    assert told.notes[-1].startswith(f"MLflow has not taken all of the run, {WHOLE}")


def test_ctrl_c_ends_only_the_waiting(silent_server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(Notes):
        def note(self, text: str) -> None:
            super().note(text)
            if text.startswith("waiting for"):
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_server}")
    told = Impatient()
    train(told, "mlflow")
    assert WHOLE in only(told.notes)


def test_a_missing_token_costs_a_line() -> None:
    told = Notes()
    train(told, "wandb")
    assert only(told.notes).endswith(
        "the run goes on without it (log in with `wandb login`, or keep the run here with "
        "WANDB_MODE=offline)"
    )


def test_a_tracker_that_is_killed_costs_a_line_and_the_others_go_on() -> None:
    killed: list[str] = []

    class Killing(opsin.Watcher):
        def epoch(self, epoch: opsin.Epoch) -> None:
            for child in psutil.Process().children():
                if "mlflow" in child.cmdline():
                    killed.append(child.environ()["MLFLOW_DISABLE_TELEMETRY"])
                    child.kill()

    told = Notes()
    run = train(told, "mlflow,tensorboard", observers=[Killing()])
    assert killed == ["true"]  # its reports on its use are off
    assert only(told.notes).startswith("MLflow failed (its process ended with SIGKILL): the run")
    assert tensorboard_events(run.path).Scalars("test/accuracy")[0].value > 0.9


_WITHOUT = """
import sys
sys.modules["torch"] = sys.modules["tensorflow"] = None
from opsin.trackers.tracking import main
sys.exit(main(*sys.argv[1:]))
"""


def test_what_a_killed_training_had_sent_is_shown_without_pytorch_and_tensorflow() -> None:
    run = train(Notes(), "tensorboard")
    before = tensorboard_events(run.path).Scalars("val_loss")
    for file in run.path.glob("events.out.tfevents.*"):
        file.unlink()
    sent = b"".join(epoch.model_dump_json().encode() + b"\n" for epoch in run.history)
    listening, said = os.pipe()
    os.close(listening)  # as if it had been killed
    command = [sys.executable, "-W", "error", "-c", _WITHOUT, "tensorboard", str(run.path), "0"]
    subprocess.run(command, input=sent, stdout=said, timeout=120, check=True)
    os.close(said)
    shown = tensorboard_events(run.path)
    points = [(point.step, point.value) for point in shown.Scalars("val_loss")]
    assert points == [(point.step, point.value) for point in before]
