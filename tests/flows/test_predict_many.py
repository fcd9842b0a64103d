"""Killed at any moment, a prediction of many images goes on, and none is lost or doubled."""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import opsin
from tests.conftest import Cli, only_json

# Forked from a process that has loaded everything once, so that what is killed is the work.
PROCESSES = multiprocessing.get_context("forkserver")
FORMS = ("jsonl", "csv", "parquet")


def write_images(folder: Path, digits: opsin.Dataset, numbers: range) -> Path:
    for number in numbers:
        path = folder / f"{number % 3}" / f"{number // 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(digits.images[number, :, :, 0])).save(path)
    return folder


def predict_in_batches(model: Path, source: Path, batch: int, **options: Any) -> None:
    """Predict in small batches, so that there are many moments to be killed at."""
    from opsin.commands.predict import predict

    predict._BATCH = batch  # type: ignore[misc]
    predict.classify(model, source, **options)


def begin(*arguments: Any, **options: Any) -> Any:
    process = PROCESSES.Process(target=predict_in_batches, args=arguments, kwargs=options)
    process.start()
    return process


def finish(*arguments: Any, **options: Any) -> float:
    began = time.perf_counter()
    process = begin(*arguments, **options)
    process.join()
    assert process.exitcode == 0
    return time.perf_counter() - began


def answers(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        rows: list[Any] = parquet.read_table(path).to_pylist()
        return rows
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines[1:] if path.suffix == ".csv" else lines


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("count", "forms"), [(2, FORMS[:2]), (200, FORMS)])
def test_killed_at_random_moments(
    count: int, forms: tuple[str, ...], tmp_path: Path, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    if "parquet" in forms:
        pytest.importorskip("pyarrow")
    PROCESSES.set_forkserver_preload(["opsin.commands.predict.predict", "pyarrow.parquet"])
    source = write_images(tmp_path / "source", digits, range(60))
    usual, whole = {}, {}
    for form in forms:
        out = tmp_path / f"whole.{form}"
        finish(
            nearest_mean, source, 4, out=tmp_path / f"first.{form}"
        )  # starts what others are forked from
        usual[form] = finish(nearest_mean, source, 4, out=out)
        whole[form] = answers(out)
        assert len(whole[form]) == 60
    chance = random.Random(0)
    stopped = 0
    for number in range(count):
        form = forms[number % len(forms)]
        out = tmp_path / str(number) / f"answers.{form}"
        for _ in range(1 + number % 2):
            process = begin(nearest_mean, source, 4, out=out)
            time.sleep(chance.uniform(0, 1.1 * usual[form]))
            process.kill()
            process.join()
            stopped += process.exitcode != 0
        finish(nearest_mean, source, 7, out=out)
        assert answers(out) == whole[form]
    assert stopped >= count / 2


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    """Of a process of its own, by the signal that a terminal sends."""
    source = write_images(tmp_path / "source", digits, range(12))
    out = tmp_path / "r.jsonl"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "opsin", "predict", nearest_mean, "-", "--out", out],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write("".join(f"{name}\n" for name in sorted(source.rglob("*.png"))))
        process.stdin.flush()
        log = out.with_name(".r.jsonl.sqlite-wal")
        while not log.exists() or not log.stat().st_size:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"{len(answers(out)):,} images are done and kept; the same command goes on" in told


def test_a_torn_archive_leaves_one_whole_object(
    cli: Cli, tmp_path: Path, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    source = write_images(tmp_path / "source", digits, range(9))
    with tarfile.open(tmp_path / "torn.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(source.rglob("*.png")):
            archive.add(path, path.name)
    content = (tmp_path / "torn.tar").read_bytes()
    (tmp_path / "torn.tar").write_bytes(content[: 5 * 1024 - 500])
    done = cli("predict", nearest_mean, "torn.tar", "--json")
    only_json(done)
    assert done.returncode == 1 and "cut short" in done.stdout
    (tmp_path / "torn.tar").write_bytes(content[:100])
    refused = only_json(cli("predict", nearest_mean, "torn.tar", "--json"))
    assert "cut short" in refused["error"]["message"]
