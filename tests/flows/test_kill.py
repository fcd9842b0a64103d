"""Killed at any moment, a training and a prediction go on to the same end."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from pathlib import Path

import pytest

import opsin
from tests.conftest import Cli, write_digits
from tests.warm import Warm

torch = pytest.mark.torch

TRAIN = ("train", "digits", "--model", "mlp", "--epochs", "2", "--batch-size", "256",
         "--checkpoint-every", "0", "--quiet")  # fmt: skip


def proved(run: opsin.Run) -> tuple[bytes, list[float], str]:
    """Return what must be equal whether or not a run was killed on its way."""
    return (
        run.directory.classifier.read_bytes(),
        [epoch.val_loss for epoch in run.history],
        run.report.model_dump_json(include={"figures"}),
    )


@torch
@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("count", [3, 300])
def test_killed_at_random_moments(count: int, warm: Warm, tmp_path: Path) -> None:
    warm.run(["--version"], cwd=tmp_path)  # from now on, what is killed is the work
    began = time.perf_counter()
    assert warm.run([*TRAIN, "--runs", "whole"], cwd=tmp_path).returncode == 0
    usual = time.perf_counter() - began
    reference = proved(opsin.list_runs(tmp_path / "whole")[0])
    chance = random.Random(0)
    for number in range(count):
        runs = tmp_path / str(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            warm.run(
                [*TRAIN, "--runs", str(runs)], cwd=tmp_path, timeout=chance.uniform(0, 1.1 * usual)
            )
        for run in opsin.list_runs(runs):
            row = run.row()
            assert row["state"] in ("failed", "done"), row
            if row["state"] == "failed":
                again = warm.run(["resume", str(run.path), "--quiet"], cwd=tmp_path)
                assert again.returncode == 0, again.stderr
            assert run.row()["state"] == "done"
            assert proved(run) == reference


@torch
def test_a_full_disk_is_told_and_resumed_from(cli: Cli, cold_cli: Cli, tmp_path: Path) -> None:
    options = ["--model", "mlp", "--hidden", "512", "--epochs", "2"]
    full = cold_cli("train", "digits", *options, largest_file=200_000, status=1)
    assert "file too large" in full.stderr
    assert "opsin resume runs/" in full.stderr
    assert "Traceback" not in full.stderr
    [run] = opsin.list_runs(tmp_path / "runs")
    assert run.row()["state"] == "failed"
    done = cli("resume", run.path, "--quiet", "--json", status=0)
    assert json.loads(done.stdout)["training"]["epochs"] == 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [4, 200])
def test_a_prediction_killed_at_random_moments_goes_on(
    count: int, warm: Warm, tmp_path: Path, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    write_digits(tmp_path / "source", digits, range(1500))
    words = ["predict", str(nearest_mean), "source", "--quiet", "--out"]
    forms, usual = ("csv", "jsonl"), []
    warm.run(["--version"], cwd=tmp_path)  # from now on, what is killed is the work
    for form in forms:
        began = time.perf_counter()
        assert warm.run([*words, f"whole.{form}"], cwd=tmp_path).returncode == 0
        usual.append(time.perf_counter() - began)
    chance, stopped = random.Random(0), 0
    for number in range(count):
        out = f"{number}.{forms[number // 2 % 2]}"
        for _ in range(1 + number % 2):
            try:
                warm.run([*words, out], cwd=tmp_path, timeout=chance.uniform(0, min(usual)))
            except subprocess.TimeoutExpired:
                stopped += 1
        done = warm.run([*words, out], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        whole = (tmp_path / "whole").with_suffix(Path(out).suffix)
        assert (tmp_path / out).read_bytes() == whole.read_bytes()
    assert stopped >= count / 4  # on a busy machine, others take longer
