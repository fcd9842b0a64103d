"""`opsin embed` as its users see it; PyTorch is not needed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Cli, only_json


def begun(tmp_path: Path, *words: str | Path, out: str) -> subprocess.Popen[str]:
    log = tmp_path / f".{out}.sqlite-wal"
    process = subprocess.Popen(
        [sys.executable, "-m", "opsin", "embed", *map(str, words)],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # The log begins with the tables; a batch takes some 30 kB, and is there once the next begins.
    while not log.exists() or log.stat().st_size < 60_000:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    return process


def features_in(file: Path) -> Any:
    with np.load(file) as arrays:
        return arrays["features"]


def test_a_file_is_written_beside_the_user(cli: Cli, shapes: Path, backbone: Path) -> None:
    told = only_json(cli("embed", shapes, "--from", backbone, "--json"))
    assert told["out"] == "shapes-small.npz"
    assert (told["images"], told["units"], told["unreadable"]) == (24, 16, [])
    assert told["classes"] == ["disc", "square"]
    file = shapes.parent / "shapes-small.npz"
    assert features_in(file).shape == (24, 16)
    again = cli("embed", shapes, "--from", backbone)
    assert again.returncode == 1
    assert "shapes-small.npz is there already" in again.stderr
    words = cli("embed", shapes, "--from", backbone, "--out", "more.npz")
    assert words.returncode == 0
    assert "24 images · 16 numbers each" in words.stdout


def test_usage(cli: Cli, shapes: Path, backbone: Path) -> None:
    assert cli("embed", shapes).returncode == 2
    assert cli("embed", shapes, "--from", "none.onnx").returncode == 1
    backbone.with_name("preprocessor_config.json").unlink()
    unsaid = cli("embed", shapes, "--from", backbone, "--json")
    assert unsaid.returncode == 1
    assert "--prepare with one of" in only_json(unsaid)["error"]["advice"]
    for words in (["--prepare=-1..1"], ["--prepare", "-1..1"]):
        done = cli("embed", shapes, "--from", backbone, *words, "--out", f"{len(words)}.npz")
        assert done.returncode == 0, done.stderr


def test_killed_in_the_middle_only_the_rest_is_computed(
    cli: Cli, backbone: Path, tmp_path: Path
) -> None:
    words = ("digits", "--from", backbone, "--out", "digits.npz")
    process = begun(tmp_path, *words, out="digits.npz")
    process.kill()
    process.communicate()
    assert not (tmp_path / "digits.npz").exists()
    told = only_json(cli(*("embed", *words, "--json")))
    assert told["images"] == 1797
    assert 0 <= told["computed"] <= 1797 - 256
    whole = only_json(cli("embed", *words[:-1], "whole.npz", "--json"))
    assert whole["computed"] == 1797
    one, other = features_in(tmp_path / "digits.npz"), features_in(tmp_path / "whole.npz")
    np.testing.assert_array_equal(one, other)


def test_ctrl_c_says_what_is_kept(backbone: Path, tmp_path: Path) -> None:
    process = begun(tmp_path, "digits", "--from", backbone, out="digits-small.npz")
    process.send_signal(signal.SIGINT)
    out, error = process.communicate()
    assert process.returncode == 130, error
    assert out == ""
    assert "the same command goes on from there" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_a_full_disk_is_told(cold_cli: Cli, backbone: Path, tmp_path: Path) -> None:
    full = cold_cli("embed", "digits", "--from", backbone, "--out", "a.npz", largest_file=50_000)
    assert full.returncode == 1
    assert "Cannot write a.npz" in full.stderr
    assert "Traceback" not in full.stderr
    assert not (tmp_path / "a.npz").exists()
