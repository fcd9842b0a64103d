"""`opsin train --repeats` and `--folds` as their users see them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Cli, only_json


@pytest.mark.slow
@pytest.mark.torch
def test_repeats_are_a_table_with_mean_and_deviation(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        "train", "digits", "--model", "mlp", "--epochs", "1", "--repeats", "2", "--seed", "7"
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 · seed 8" in done.stderr
    lines = done.stdout.splitlines()
    (file,) = (tmp_path / "runs").glob("*-repeats.json")
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert str(file.relative_to(tmp_path)) in lines[-1]
    for row in kept["runs"]:
        (line,) = [line for line in lines if line.startswith(row["run"])]
        assert f"{row['accuracy']:.4f} ± " in line
    (mean,) = [line for line in lines if line.startswith("Mean ± deviation")]
    assert f"{kept['mean']['accuracy']:.4f} ± {kept['deviation']['accuracy']:.4f}" in mean
    assert "standard deviation between seeds" in done.stdout
    listed = only_json(cli("runs", "--json"))["runs"]
    assert {row["run"] for row in listed} == {row["run"] for row in kept["runs"]}


@pytest.mark.torch
def test_folds_are_one_json_object_and_pooled(cli: Cli, tmp_path: Path) -> None:
    done = cli("train", "digits", "--model", "mlp", "--epochs", "5", "--classes", "0,1,2",
               "--folds", "2", "--quiet", "--json")  # fmt: skip
    found = only_json(done)
    assert done.stderr == ""
    labels = (tmp_path / found.pop("labels")).read_text(encoding="utf-8")
    assert labels.startswith("digest,name,label,suggested,score\n")
    assert json.loads((tmp_path / found.pop("file")).read_text(encoding="utf-8")) == found
    assert [row["fold"] for row in found["runs"]] == ["1/2", "2/2"]
    assert found["pooled"]["images"] == sum(row["images"] for row in found["runs"]) == 537
    assert [entry["name"] for entry in found["pooled"]["classes"]] == ["0", "1", "2"]
