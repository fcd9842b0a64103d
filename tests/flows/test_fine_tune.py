"""A pretrained network's weights are trained: kept where better, resumed to the bit, or refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import opsin
from opsin.core.errors import ModelFileError, RunError
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.backbones.small_networks import network
from tests.conftest import Cli, Notes, Train, cli_without

CLASSES = ("0", "1", "2", "3", "8", "9")
OPTIONS: dict[str, Any] = {
    "prepare": "-1..1", "fine_tune": True, "epochs": 5, "learning_rate": 0.03, "augment": "none",
    "batch_size": 16, "head": "nearest-mean", "checkpoint_every": 0.1,
}  # fmt: skip
# The same on the command line.
WORDS = [
    f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
    for name, value in OPTIONS.items()
]


def tuned(backbone: Path, runs: Path, **options: Any) -> opsin.Run:
    given = {"classes": CLASSES, **OPTIONS, **options}
    return opsin.train("digits", backbone=backbone, runs=runs, quiet=True, **given)


@pytest.mark.torch
def test_what_is_better_is_kept_in_the_network_s_own_layers(backbone: Path, tmp_path: Path) -> None:
    run = tuned(backbone, tmp_path)
    assert run.report.reasons["Fine-tune"].startswith("kept: of ")
    assert run.report.training.epochs == 5
    assert (run.report.file.difference or 0) < 1e-4
    classifier = run.classifier()
    names = [layer.name for layer in classifier.metadata.layers]
    assert names[:4] == ["conv1", "relu1", "conv2", "relu2"]
    assert classifier.metadata.backbone is not None
    before, after = OnnxGraph(backbone.read_bytes(), ()), OnnxGraph(classifier.content)
    assert all(np.abs(before.weights[w] - after.weights[w]).max() > 1e-3 for w in ("w1", "w2"))
    # Pixels are scaled as they were: that is no weight of the network.
    assert after.weights["input.values.factor"].ravel() == pytest.approx([1 / 127.5] * 3)
    again = tuned(backbone, tmp_path)
    assert again.classifier().content == classifier.content


@pytest.mark.torch
def test_what_is_no_better_is_not_kept_and_it_is_said(
    cli: Cli, backbone: Path, tmp_path: Path
) -> None:
    words = [*WORDS[:2], "--epochs", "1", "--learning-rate", "1e-7", "--runs", "runs"]
    process = cli("train", "digits", "--classes", "0,1,2", "--from", backbone, *words, status=0)
    assert "not kept: of" in process.stderr
    (path,) = (tmp_path / "runs").iterdir()
    run = opsin.Run(path)
    assert "not kept" in run.report.reasons["Fine-tune"]
    before, after = OnnxGraph(backbone.read_bytes(), ()), OnnxGraph(run.classifier().content)
    assert (before.weights["w1"] == after.weights["w1"]).all()
    assert run.report.training.unit == "fits"


@pytest.mark.torch
def test_a_head_that_is_delivered_since_fine_tuning_was_stopped_says_so(
    backbone: Path, tmp_path: Path
) -> None:
    watcher = Notes(interrupt_at=3, training=True)
    run = tuned(backbone, tmp_path, learning_rate=1e-7, watcher=watcher)
    assert (run.report.training.stopped, run.report.training.unit) == (True, "fits")
    assert "stopped before it was better" in watcher.facts["Trained"]


def stopped(
    backbone: Path,
    runs: Path,
    how: signal.Signals,
    words: Sequence[str] = WORDS,
    once: str = "history.jsonl",
) -> opsin.Run:
    given = ["train", "digits", f"--classes={','.join(CLASSES)}", f"--from={backbone}", *words]
    command = [sys.executable, "-m", "opsin", *given, f"--runs={runs}", "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not any(path.stat().st_size for path in runs.glob(f"*/{once}")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate()
    (path,) = runs.iterdir()
    return opsin.Run(path)


@pytest.mark.torch
@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_ended_in_the_middle_it_goes_on_to_the_same_bits(
    how: signal.Signals, backbone: Path, tmp_path: Path
) -> None:
    whole = tuned(backbone, tmp_path / "whole")
    run = stopped(backbone, tmp_path / "runs", how)
    state = run.row()["state"]
    if how is signal.SIGINT:  # what was done until then is usable
        assert state == "stopped"
        assert run.report.training.interrupted
        assert run.classifier().metadata.classes == CLASSES
    else:
        assert state == "failed"
    again = opsin.resume(run, quiet=True)
    assert again.row()["state"] == "done"
    assert again.classifier().content == whole.classifier().content
    assert [epoch.val_loss for epoch in again.history] == [e.val_loss for e in whole.history]
    assert again.report.reasons == whole.report.reasons


@pytest.mark.slow
@pytest.mark.torch
def test_killed_before_its_epochs_were_counted_it_keeps_its_budget(
    backbone: Path, tmp_path: Path
) -> None:
    words = ["--prepare=-1..1", "--fine-tune", "--epochs", "10000", "--budget", "4s"]
    run = stopped(backbone, tmp_path / "runs", signal.SIGKILL, words, once="recipe.json")
    again = opsin.resume(run, quiet=True)
    assert again.row()["state"] == "done"
    assert len(again.history) < 10_000


@pytest.mark.slow
@pytest.mark.torch
def test_another_network_in_its_place_is_refused(backbone: Path, tmp_path: Path) -> None:
    run = stopped(backbone, tmp_path / "runs", signal.SIGKILL)
    backbone.write_bytes(network(head="logits"))
    with pytest.raises(RunError, match="is another network now"):
        opsin.resume(run, quiet=True)
    backbone.write_bytes(network())
    with pytest.raises(RunError, match="Train anew"):
        opsin.resume(run, epochs=9, quiet=True)
    assert opsin.resume(run, quiet=True).row()["state"] == "done"


@pytest.mark.torch
def test_an_operator_without_gradients_is_named_before_anything_is_read(
    train: Train, backbone: Path
) -> None:
    model = onnx.load(backbone)
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.CopyFrom(helper.make_node("ThresholdedRelu", node.input, node.output, alpha=0.1))
    onnx.save(model, backbone)
    with pytest.raises(ModelFileError, match=r"ThresholdedRelu has none.*frozen features still"):
        train("nowhere", backbone=backbone, **OPTIONS)


def test_without_pytorch_it_says_what_to_install(backbone: Path, tmp_path: Path) -> None:
    words = ["train", "nowhere", "--from", str(backbone), "--prepare=-1..1", "--fine-tune"]
    done = cli_without(["torch"], *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install 'opsin[train]'" in done.stderr
    assert "frozen features still work" in done.stderr
    assert "Traceback" not in done.stderr
