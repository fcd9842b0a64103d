"""Models without layers as their users see them, and where PyTorch is not installed."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Cli, cli_without, only_json, shape_image
from tests.warm import Warm


def test_a_model_without_layers_is_trained_where_there_is_no_pytorch(
    cli: Cli, tmp_path: Path, shapes: Path
) -> None:
    words = ("train", "shapes", "--model", "logistic", "--json")
    done = cli_without(("torch", "safetensors"), *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = only_json(done)
    for word in ("Layer", "head", "1/1", "Trained", "same answers as scikit-learn"):
        assert word in done.stderr, word
    Image.fromarray(shape_image("disc", 99)).save(tmp_path / "new.png")
    answer = only_json(cli("predict", report["run"], "new.png", "--json"))
    assert set(answer["predictions"][0]["probabilities"]) == {"disc", "square"}
    assert only_json(cli("evaluate", report["run"], "shapes", "--json"))["part"] == "own-test"


@pytest.mark.skipif(sys.platform != "linux", reason="sends signals to a fork")
def test_ctrl_c_ends_with_130_and_resume_says_what_to_do(
    cli: Cli, warm: Warm, tmp_path: Path
) -> None:
    command = ["train", "digits", "--model", "forest", "--trees", "10000", "--side", "4"]
    with warm.start(command, cwd=tmp_path) as begun:
        while not list(tmp_path.glob("runs/*/recipe.json")):  # what resume knows a run by
            assert begun.poll() is None, begun.wait().stderr
            time.sleep(0.05)
        begun.send_signal(signal.SIGINT)
        done = begun.wait(120)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    (run,) = tmp_path.glob("runs/*")
    status = json.loads((run / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "stopped"
    resumed = cli("resume", run)
    assert resumed.returncode == 1
    assert "opsin train digits --model forest" in resumed.stderr
