"""Killed at any moment, a run can be listed, opened and resumed to the same end."""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from tests.conftest import Cli
from tests.warm import LIBRARIES

pytestmark = pytest.mark.torch

# Forked from a process that has loaded everything once, so that what is killed is the work.
PROCESSES = multiprocessing.get_context("forkserver")


def train(runs: Path) -> None:
    opsin.train("digits", model="mlp", epochs=2, batch_size=256, checkpoint_every=0, runs=runs,
                quiet=True)  # fmt: skip


def resume(run: Path) -> None:
    opsin.resume(run, quiet=True)


def proved(run: opsin.Run) -> tuple[bytes, list[float], str]:
    """Return what must be equal whether or not a run was killed on its way."""
    return (
        run.directory.classifier.read_bytes(),
        [epoch.val_loss for epoch in run.history],
        json.dumps(run.figures),
    )


def kill_at_random_moments(count: int, folder: Path) -> None:
    PROCESSES.set_forkserver_preload([
        *LIBRARIES, "opsin.commands.train", "opsin.commands.resume", "opsin.training.trainer",
        "opsin.training.torch_to_onnx", "opsin.commands.report", "opsin.evaluation.metrics",
    ])  # fmt: skip
    began = 0.0
    for _ in range(2):  # the first one also starts what the others are forked from
        began = time.perf_counter()
        whole = PROCESSES.Process(target=train, args=(folder / "whole",))
        whole.start()
        whole.join()
    usual = time.perf_counter() - began
    reference = proved(opsin.list_runs(folder / "whole")[0])
    chance = random.Random(0)
    for number in range(count):
        runs = folder / str(number)
        process = PROCESSES.Process(target=train, args=(runs,))
        process.start()
        time.sleep(chance.uniform(0, 1.1 * usual))
        process.kill()
        process.join()
        for run in opsin.list_runs(runs):
            row = run.row()
            assert row["state"] in ("failed", "done"), row
            if row["state"] == "failed":
                again = PROCESSES.Process(target=resume, args=(run.path,))
                again.start()
                again.join()
                assert again.exitcode == 0, row
            assert run.row()["state"] == "done"
            assert proved(run) == reference


def test_killed_at_a_few_random_moments(tmp_path: Path) -> None:
    kill_at_random_moments(2, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_killed_at_300_random_moments(tmp_path: Path) -> None:
    kill_at_random_moments(300, tmp_path)


def test_a_killed_process_frees_its_run(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "opsin", "train", "digits", "--model", "mlp", "--epochs", "9999",
         "--batch-size", "16", "--runs", str(tmp_path), "--quiet"],
    )  # fmt: skip
    try:
        while not any(tmp_path.glob("*/checkpoints/*.json")):
            assert process.poll() is None
            time.sleep(0.05)
        [directory] = [RunDirectory(path) for path in tmp_path.iterdir()]
        assert directory.state() == ("running", None)
    finally:
        process.kill()
        process.wait()
    state, cause = directory.state()
    assert state == "failed"
    assert cause is not None and "ended without a message" in cause


def test_a_full_disk_is_told_and_resumed_from(cli: Cli, cold_cli: Cli, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    options = ["--model", "mlp", "--hidden", "512", "--epochs", "2"]
    full = cold_cli("train", "digits", *options, preexec_fn=small_files)
    assert full.returncode == 1
    assert "file too large" in full.stderr
    assert "opsin resume runs/" in full.stderr
    assert "Traceback" not in full.stderr
    [run] = opsin.list_runs(tmp_path / "runs")
    assert run.row()["state"] == "failed"
    done = cli("resume", run.path, "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["training"]["epochs"] == 2
