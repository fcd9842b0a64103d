"""`opsin compare` as its users run it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from opsin.data.dataset import Dataset
from tests.conftest import Cli, cli_without, only_json
from tests.made_runs import answers_right, write_run


@pytest.fixture
def two(tmp_path: Path, digits: Dataset, nearest_mean: Path) -> tuple[Path, Path]:
    poor, good = (
        write_run(tmp_path / "runs", name, digits, answers_right(digits, right),
                  classifier=nearest_mean)
        for name, right in (("poor", 0.5), ("good", 0.9))
    )  # fmt: skip
    return poor, good


def test_a_table_a_sentence_and_a_page(cli: Cli, two: tuple[Path, Path]) -> None:
    done = cli("compare", *two, "--out", "look")
    assert done.returncode == 0, done.stderr
    for words in ("5.0 kB", "1,234", "0:12", "B is better than A by", "look/compare.html"):
        assert words in done.stdout, words
    wide = max(len(line) for line in done.stdout.splitlines() if "±" in line)
    assert wide <= 100


def test_one_json_object_and_silence(cli: Cli, two: tuple[Path, Path], tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    done = cli("compare", two[1], two[0], "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    content = only_json(done)
    assert (content["pairs"][0]["better"], content["files"]) == ("A", [])
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_it_needs_no_pytorch_and_says_what_figures_need(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    run = partial(cli_without, cwd=tmp_path)
    done = run(("torch", "onnx", "safetensors", "matplotlib"), "compare", *two, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pairs"][0]["better"] == "B"
    for missing, words in ((("matplotlib",), ("--out", "look")), (("scipy",), ())):
        done = run(missing, "compare", *two, *words)
        assert done.returncode == 1
        assert "pip install 'opsin[evaluate]'" in done.stderr
        assert "Traceback" not in done.stderr
