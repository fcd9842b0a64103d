"""Killed at any moment, a prediction of many images goes on, and none is lost or doubled."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from tests.conftest import Cli, only_json
from tests.warm import Warm


def write_images(folder: Path, digits: opsin.Dataset, count: int) -> Path:
    for number in range(count):
        path = folder / f"{number % 3}" / f"{number // 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(digits.images[number, :, :, 0])).save(path)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [4, 200])
def test_killed_at_random_moments(
    count: int, warm: Warm, tmp_path: Path, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    write_images(tmp_path / "source", digits, 1500)
    words = ["predict", str(nearest_mean), "source", "--quiet", "--out"]
    forms, usual = ("csv", "jsonl"), 0.0
    for form in ("csv", *forms):  # the first starts what others are forked from
        began = time.perf_counter()
        Path(tmp_path / f"whole.{form}").unlink(missing_ok=True)
        assert warm.run([*words, f"whole.{form}"], cwd=tmp_path).returncode == 0
        usual = time.perf_counter() - began
    chance, stopped = random.Random(0), 0
    for number in range(count):
        out = f"{number}.{forms[number // 2 % 2]}"
        for _ in range(1 + number % 2):
            try:
                warm.run([*words, out], cwd=tmp_path, timeout=chance.uniform(0, 1.1 * usual))
            except subprocess.TimeoutExpired:
                stopped += 1
        done = warm.run([*words, out], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        whole = (tmp_path / "whole").with_suffix(Path(out).suffix)
        assert (tmp_path / out).read_bytes() == whole.read_bytes()
    assert stopped >= count / 2


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    """Of a process of its own, by the signal that a terminal sends."""
    source = write_images(tmp_path / "source", digits, 12)
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
    assert (
        f"{len(out.read_bytes().splitlines())} images are done and kept; the same command goes on"
        in told
    )


def test_a_torn_archive_leaves_one_whole_object(
    cli: Cli, tmp_path: Path, nearest_mean: Path, digits: opsin.Dataset
) -> None:
    source = write_images(tmp_path / "source", digits, 9)
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
