"""A model without layers takes the same road as a network, and keeps the same promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.classical import fitted_file
from opsin.classical.classical_recipe import ClassicalRecipe
from opsin.classical.fitted_file import check_parity
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ParityError, RunError
from opsin.data.dataset import Dataset
from tests.conftest import Notes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> opsin.Run:
    return opsin.train(digits, model="forest", trees=25, seed=4, quiet=True,
                       runs=tmp_path_factory.mktemp("runs"))  # fmt: skip


@pytest.mark.drawn
def test_a_finished_run_is_whole(run: opsin.Run) -> None:
    directory = run.directory
    for file in ("recipe", "status", "dataset", "split", "history", "classifier", "predictions",
                 "report", "page", "log"):  # fmt: skip
        assert getattr(directory, file).stat().st_size > 0, file
    assert directory.state() == ("done", None)
    assert isinstance(run.recipe, ClassicalRecipe)
    assert (run.recipe.model.name, run.recipe.training.seed) == ("forest", 4)
    assert "scikit-learn" in run.recipe.versions
    assert run.row()["model"] == "forest"
    assert [epoch.epoch for epoch in run.history] == [1]
    assert not directory.checkpoints.exists()
    log = directory.log.read_text(encoding="utf-8")
    assert "same answers as scikit-learn on 512 images" in log


def test_the_figures_are_those_of_the_file(run: opsin.Run, digits: Dataset) -> None:
    rows = digits.split.test
    probabilities = run.classifier().probabilities(digits.images[rows])
    kept = run.directory.load_arrays(run.directory.predictions)
    assert np.array_equal(kept["test_probabilities"], probabilities)
    right = float(np.mean(probabilities.argmax(axis=1) == digits.labels[rows]))
    assert run.accuracy == pytest.approx(right)
    assert run.accuracy > 0.9
    score, training = run.classifier().metadata.score, run.report.training
    assert score and score.accuracy == run.accuracy
    assert training.fitted_to == len(digits.split.train)
    assert (training.parameters or 0) > 1_000
    assert (training.epochs, training.unit) == (1, "fits")
    assert (run.report.file.difference or 0) <= 1e-4


def test_it_cannot_be_resumed_and_says_what_to_do(run: opsin.Run, tmp_path: Path) -> None:
    for state in ("done", "stopped"):
        path = tmp_path / f"run {state}"
        shutil.copytree(run.path, path)
        RunDirectory(path).set_status(state)
        with pytest.raises(RunError) as caught:
            opsin.resume(path, quiet=True)
        assert "fitted in one go" in caught.value.message
        assert "opsin train digits --model forest" in caught.value.advice


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"model": "logistic", "epochs": 5}, "no option epochs"),
        ({"model": "forest", "budget": "10m"}, "no option budget"),
        ({"model": "knn", "neighbours": 0}, "neighbours"),
        ({"model": "svm", "classes": ["3"]}, "class"),
        ({"model": "svm", "device": "gpu"}, "gpu"),
    ],
)
def test_a_request_that_cannot_work_makes_no_directory(
    tmp_path: Path, options: dict[str, Any], received: str
) -> None:
    with pytest.raises(opsin.OpsinError, match=received):
        opsin.train("digits", runs=tmp_path / "runs", quiet=True, **options)
    assert not (tmp_path / "runs").exists()


def test_answers_are_computed_where_it_is_said(
    tmp_path: Path, digits: Dataset, stand_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def watched(file: opsin.Classifier, *rest: Any) -> float:
        compared.append(file.device)
        return check_parity(file, *rest)

    monkeypatch.setattr(fitted_file, "check_parity", watched)
    run = opsin.train(
        digits, model="logistic", images=200, side=4, runs=tmp_path, quiet=True, device=stand_in
    )
    assert run.recipe.training.device == stand_in
    assert run.report.training.answered_on == stand_in
    assert run.report.training.device.endswith(f"; answers on {stand_in}")
    assert run.classifier(device="cpu").device == "cpu"
    figures = opsin.evaluate(run.path, "digits", device=stand_in)
    assert figures.model_dump(mode="json", exclude_unset=True)["device"] == stand_in
    assert compared == ["cpu"]


def test_a_file_that_differs_is_never_written(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(*_: object) -> float:
        raise ParityError("The answers differ by 0.2", "Report this.")

    monkeypatch.setattr(fitted_file, "check_parity", differs)
    with pytest.raises(ParityError):
        opsin.train(digits, model="logistic", runs=tmp_path, quiet=True)
    (path,) = tmp_path.iterdir()
    assert RunDirectory(path).state()[0] == "failed"
    assert not (path / "classifier.onnx").exists()


def test_ctrl_c_ends_a_fitting_at_once(tmp_path: Path, digits: Dataset) -> None:
    with pytest.raises(KeyboardInterrupt):
        opsin.train(digits, model="forest", trees=10_000, runs=tmp_path,
                    watcher=Notes(interrupt_at=4))  # fmt: skip
    (path,) = tmp_path.iterdir()
    state, cause = RunDirectory(path).state()
    assert state == "stopped" and "cannot be left half done" in str(cause)
    assert not (path / "classifier.onnx").exists()
