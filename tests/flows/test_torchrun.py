"""``torchrun -m opsin train``: processes that train together, and are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import opsin
from tests.conftest import Cli

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc"),
]

_ROOT = Path(__file__).parents[2]
#: Dropout, BatchNorm, images that are varied at random.
_TRAIN = (
    "train", "digits", "--model", "resnet", "--hidden", "8", "--dropout", "0.2", "--augment",
    "photos", "--rotate", "10", "--erase", "0.2", "--batch-size", "100", "--learning-rate", "0.01",
    "--checkpoint-every", "1",
)  # fmt: skip
_LONGEST = 120.0
_UNDRAWN = """\
import runpy
import opsin.commands.report as report
report.draw_run = lambda *_, **__: None
runpy.run_module("opsin", run_name="__main__", alter_sys=True)
"""


@contextlib.contextmanager
def _started(words: Sequence[str], cwd: Path, restarts: int = 0) -> Iterator[subprocess.Popen[str]]:
    script = cwd / "undrawn.py"
    script.write_text(_UNDRAWN)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    options = ["--nproc-per-node", "2", "--max-restarts", str(restarts)]
    command = [*torchrun, *options, str(script), *words]
    env = os.environ | {"PYTHONPATH": str(_ROOT / "src"), "OMP_NUM_THREADS": "1"}
    with (
        (cwd / "said").open("w") as said,
        subprocess.Popen(command, cwd=cwd, text=True, stdout=-1, stderr=said, env=env) as process,
    ):
        try:
            yield process
        finally:
            for pid in _workers(process.pid).values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.kill()


def _ran(words: Sequence[str], cwd: Path) -> tuple[int, str, str]:
    with _started(words, cwd) as process:
        out, _ = process.communicate(timeout=_LONGEST)
    return process.returncode, out, (cwd / "said").read_text()


def _workers(torchrun: int) -> dict[int, int]:
    found = {}
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split():
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            ranks = [word for word in words if word.startswith(b"RANK=")]
            if ranks:
                found[int(ranks[0].removeprefix(b"RANK="))] = int(pid)
    return found


def _epochs(runs: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in runs.glob("*/history.jsonl"))


def _kill(process: subprocess.Popen[str], rank: int, runs: Path, *, epochs: int) -> None:
    until = time.monotonic() + _LONGEST
    while _epochs(runs) < epochs:
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(_workers(process.pid)[rank], signal.SIGKILL)


def _weights(run: Path) -> dict[str, bytes]:
    from safetensors.numpy import load_file  # not in the runtime half's environment

    newest = max((run / "checkpoints").glob("*.safetensors"))
    return {newest.stem: b"", **{n: v.tobytes() for n, v in load_file(newest).items()}}


def _same(one: Path, other: Path) -> bool:
    figures = ("train_loss", "val_loss", "val_accuracy")
    histories = [
        [[getattr(epoch, figure) for figure in figures] for epoch in opsin.Run(run).history]
        for run in (one, other)
    ]
    return histories[0] == histories[1] and _weights(one) == _weights(other)


@pytest.mark.slow
def test_a_killed_process_costs_time_only(tmp_path: Path) -> None:
    words = (*_TRAIN, "--epochs", "8", "--json", "--runs")
    status, out, said = _ran([*words, "whole"], tmp_path)
    assert status == 0, said
    whole = tmp_path / json.loads(out)["run"]
    runs = tmp_path / "killed"
    with _started([*words, "killed"], tmp_path) as process:
        _kill(process, 1, runs, epochs=2)
        out, _ = process.communicate(timeout=_LONGEST)
    said = (tmp_path / "said").read_text()
    assert process.returncode == 1
    assert said.count("opsin: One of the 2 processes ended") == 1
    (run,) = runs.iterdir()
    state, cause = opsin.Run(run).directory.state()
    assert state == "failed" and "One of the 2 processes ended" in str(cause)

    with _started(["resume", str(run), "--json"], tmp_path, restarts=1) as process:
        _kill(process, 0, runs, epochs=5)
        out, _ = process.communicate(timeout=_LONGEST)
    assert process.returncode == 0, (tmp_path / "said").read_text()
    assert json.loads(out.splitlines()[-1])["run"] == str(run)
    assert list(runs.iterdir()) == [run]
    assert _same(run, whole)


def test_what_one_process_does_is_refused_by_the_first(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"TORCHELASTIC_RUN_ID": "boots", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    for words in (("predict", "run", "boot.png"), ("train", "digits", "--folds", "2")):
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            monkeypatch.setenv("LOCAL_RANK", rank)
            refused = cli(*words, "--json", status=1)
            if rank == "0":
                assert "torchrun started 2" in json.loads(refused.stdout)["error"]["message"]
            else:
                assert not refused.stdout + refused.stderr
