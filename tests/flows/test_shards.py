"""Shards, made by processes that know nothing of each other and are killed now and then."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import opsin
from tests.conftest import Cli, a_few, only_json, write_digits
from tests.documented import fenced

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "many-machines.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, digits: opsin.Dataset, nearest_mean: Path) -> Path:
    """What the page's commands find where they run: photos, a model, and the command itself."""
    write_digits(tmp_path / "photos", digits, range(60))
    (tmp_path / "boots").symlink_to(nearest_mean)
    command = tmp_path / "bin" / "opsin"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m opsin "$@"\n')
    command.chmod(0o755)
    return tmp_path


def start(script: str, folder: Path, **given: object) -> subprocess.Popen[bytes]:
    own = {name: str(value) for name, value in given.items()}
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, **own, "PATH": path},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )


def slurm(folder: Path, number: int, count: int) -> subprocess.Popen[bytes]:
    script = dict(fenced(PAGE))["bash"]
    return start(script, folder, SLURM_ARRAY_TASK_ID=number, SLURM_ARRAY_TASK_COUNT=count)


def kubernetes(folder: Path, number: int, count: int) -> subprocess.Popen[bytes]:
    job = dict(fenced(PAGE))["yaml"]
    (script,) = re.findall(r"args: \['(.+)'\]", job)
    script = script.replace("/16", f"/{count}")
    return start(script, folder, JOB_COMPLETION_INDEX=number - 1)


@pytest.mark.parametrize("batch", a_few([slurm, kubernetes], 1))
def test_a_batch_system_makes_the_file_of_one_command(
    folder: Path, cli: Cli, batch: Callable[[Path, int, int], subprocess.Popen[bytes]]
) -> None:
    only_json(cli("predict", "boots", "photos", "--out", "plain.csv", "--json"))
    tasks = [batch(folder, number, 3) for number in (1, 2, 3)]
    assert [task.wait(120) for task in tasks] == [0, 0, 0]
    merged = only_json(cli("merge", "answers.csv", "--json"))
    assert (merged["shards"], merged["rows"], merged["images"]) == (3, 60, 60)
    assert (folder / "answers.csv").read_bytes() == (folder / "plain.csv").read_bytes()
