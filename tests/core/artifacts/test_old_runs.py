"""Runs that Opsin 0.1 made before its files were typed are read whole, and nothing of them is lost.

``old_runs`` holds the JSON files of two trainings on digits, of an mlp and of a forest.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
from pydantic import ValidationError

import opsin
from opsin.classical.classical_recipe import ClassicalRecipe, Forest
from opsin.core.artifacts.artifact import Artifact
from opsin.core.artifacts.dataset_record import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.artifacts.run_report import Report
from opsin.core.artifacts.run_status import RunStatus
from opsin.core.artifacts.run_summary import summarise
from opsin.core.errors import RunError

OLD = Path(__file__).parent / "old_runs"
RUNS = ("mlp", "forest")


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> RunDirectory:
    return RunDirectory.open(OLD / request.param)


@pytest.mark.parametrize("kind", [DatasetRecord, Report, RunStatus])
def test_every_field_is_known_and_comes_back(run: RunDirectory, kind: type[Artifact]) -> None:
    content = json.loads((run.path / kind.FILE).read_text())
    if "reject" in content:  # a cosine, then
        least = content["reject"].pop("threshold")
        content["reject"]["max_ood_score"] = pytest.approx(1 - least, abs=1e-7)
    read = run.read(kind)
    assert read.to_json() == content
    assert not read.model_extra
    assert read.format == 1


def test_an_option_is_known_by_its_earlier_name() -> None:
    content = json.loads((OLD / "forest" / "recipe.json").read_text())
    assert content["model"]["pictures"] == 100_000
    recipe = ClassicalRecipe.model_validate(content)
    assert "pictures" not in recipe.model_dump()["model"]
    assert Forest.model_validate({"pictures": 500}).images == 500
    with pytest.raises(ValidationError):
        Forest.model_validate({"pictures": 500, "images": 500})


def test_a_cosine_of_earlier_is_an_ood_score(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "run")
    one = np.ones((1, 1), np.float32)
    arrays = {"val_rows": np.array([0]), "val_labels": np.array([0]), "val_probabilities": one}
    run.save_arrays(run.predictions, **arrays, val_familiarity=np.array([0.75], np.float32))
    scores = RunPredictions.read(run).of("val").ood_score
    assert scores is not None and scores.tolist() == [0.25]


def test_the_history_comes_back(run: RunDirectory) -> None:
    lines = run.history.read_text().splitlines()
    assert [epoch.model_dump_json() for epoch in run.read_history()] == lines
    assert len(run.read_confusions()) == (2 if run.path.name == "mlp" else 0)


def test_a_table_shows_what_the_report_says(run: RunDirectory) -> None:
    summary = summarise(run)
    figures = json.loads(run.report.read_text())["figures"]["test"]
    assert (summary.state, summary.sources) == ("done", ("digits",))
    assert summary.model == run.path.name
    assert summary.started == opsin.Run(run.path).row()["started"] == run.read(RunStatus).started
    assert (summary.accuracy, summary.low, summary.high) == tuple(
        figures[name] for name in ("accuracy", "low", "high")
    )


def test_what_is_written_anew_keeps_fields_that_nobody_knows(tmp_path: Path) -> None:
    run = RunDirectory(shutil.copytree(OLD / "mlp", tmp_path / "run"))
    content = json.loads(run.report.read_text())
    content["later"] = {"a": [1, None]}
    content["training"]["later"] = "b"
    run.report.write_text(json.dumps(content))
    run.read(Report).write(run.path)
    content["reject"] = {"max_ood_score": ANY, "rate": ANY, "images": ANY}
    assert json.loads(run.report.read_text()) == {"format": 1, **content}


def test_a_format_of_tomorrow_is_refused(tmp_path: Path) -> None:
    run = RunDirectory(shutil.copytree(OLD / "mlp", tmp_path / "run"))
    run.report.write_text(json.dumps({"format": 2, "figures": "other"}))
    with pytest.raises(RunError, match=r"report\.json has format 2\. Update Opsin"):
        run.read(Report)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("split", "train", "split"),
        ("figures", {}, "no figures of the test part"),
        ("seconds", {"train": -1}, "seconds.train"),
        ("layers", [1], "layers.0"),
    ],
)
def test_a_damaged_report_says_where(tmp_path: Path, name: str, value: object, said: str) -> None:
    run = RunDirectory(shutil.copytree(OLD / "mlp", tmp_path / "run"))
    run.report.write_text(json.dumps(json.loads(run.report.read_text()) | {name: value}))
    with pytest.raises(RunError, match=said) as caught:
        run.read(Report)
    assert str(run.report) in caught.value.received
    assert summarise(run).state == "damaged"
