"""A training keeps Opsin's promises: honest, repeatable, and nothing lost."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

import opsin
from opsin.classical import fitted_file
from opsin.classical.fitted_file import check_parity
from opsin.commands.train.learner import versions
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Leaks
from opsin.core.errors import OpsinError, ParityError, RunError, StorageError
from opsin.data.dataset import Dataset
from tests.conftest import Notes, Train, write_shapes

torch = pytest.mark.torch


def weights_of(run: opsin.Run) -> str:
    from opsin.training.checkpoint import Checkpoints

    found = Checkpoints(run.directory.checkpoints).newest()
    assert found is not None
    tensors, _ = found
    whole = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
    return hashlib.sha256(whole).hexdigest()


@pytest.fixture(scope="session", params=[pytest.param("run", marks=torch), "forest"])
def made(request: pytest.FixtureRequest) -> opsin.Run:
    """A finished run on the digits, of each kind of learner."""
    found: opsin.Run = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def forest(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> opsin.Run:
    return opsin.train(
        digits, model="forest", trees=25, seed=4, quiet=True, runs=tmp_path_factory.mktemp("forest")
    )


@pytest.mark.drawn
def test_a_finished_run_is_whole(made: opsin.Run) -> None:
    directory, network = made.directory, isinstance(made.recipe, opsin.Recipe)
    records = ("recipe", "status", "dataset", "split", "history", "report", "log")
    for file in (*records, "classifier", "predictions", "page", "card"):
        assert getattr(directory, file).stat().st_size > 0, file
    figures = {"curves", "confusion", "answers", "mistakes", "calibration", "roc", "slices"}
    assert {path.stem for path in directory.figures.iterdir()} >= figures - {"curves"}
    assert directory.state() == ("done", None)
    assert list(directory.path.rglob(".*")) == [directory.lock]  # no scratch left
    assert len(made.history) == (3 if network else 1)
    assert directory.checkpoints.exists() == network


def test_the_figures_are_those_of_the_file(made: opsin.Run, digits: Dataset) -> None:
    rows = digits.split.test
    probabilities = made.classifier().probabilities(digits.images[rows])
    right = float(np.mean(probabilities.argmax(axis=1) == digits.labels[rows]))
    assert made.accuracy == pytest.approx(right)
    assert made.accuracy > 0.8
    kept = made.directory.load_arrays(made.directory.predictions)
    assert np.array_equal(kept["test_probabilities"], probabilities)
    score = made.classifier().metadata.score
    assert score and (score.split, score.accuracy) == ("test", made.accuracy)
    assert (made.report.file.difference or 0) <= 1e-4


def ood_score_of(run: opsin.Run, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    (answers,) = run.classifier().iter_answers(images[..., None])
    assert answers.ood_score is not None
    return answers.ood_score


@torch
def test_noise_for_test_labels_changes_nothing_but_the_test_figures(train: Train) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 90, (400, 8, 8), np.uint8)
    labels = np.arange(400) % 2
    images[labels == 1, 2:6, 2:6] += 120
    runs = []
    for test_labels in (labels[:60], random.integers(0, 2, 60)):
        data = opsin.from_arrays(images[60:], labels[60:], test=(images[:60], test_labels))
        runs.append(train(data, model="mlp", epochs=12))
    one, two = runs
    assert weights_of(one) == weights_of(two)
    assert one.report.training.best_epoch == two.report.training.best_epoch
    assert one.report.figures["val"] == two.report.figures["val"]
    assert one.report.calibration == two.report.calibration is not None
    assert one.report.reject == two.report.reject is not None
    assert np.array_equal(ood_score_of(one, images[:9]), ood_score_of(two, images[:9]))
    assert one.accuracy > 0.9
    assert two.accuracy < 0.8


def test_onnx_runtime_for_a_gpu_is_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", {"numpy": "2"}.__getitem__)
    assert versions("numpy")["onnxruntime"] == onnxruntime.__version__


@torch
def test_same_seed_same_run(train: Train, shapes: Path) -> None:
    made = [train(shapes, model="resnet", epochs=2, hidden=(8, 8)) for _ in range(2)]
    assert weights_of(made[0]) == weights_of(made[1])
    reports = [run.report.model_dump(mode="json", include={"figures"}) for run in made]
    assert reports[0] == reports[1]
    other = train(shapes, model="resnet", epochs=2, hidden=(8, 8), seed=1)
    assert weights_of(other) != weights_of(made[0])


@pytest.mark.drawn
def test_without_test_data_the_verdict_is_called_optimistic(
    tmp_path: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = opsin.train(shapes, model="logistic", test_fraction=0.0, runs=tmp_path)
    assert (run.report.split, run.row()["split"]) == ("val", "val")
    assert set(run.report.figures) == {"val"}
    assert "optimistic" in run.directory.page.read_text(encoding="utf-8")
    assert "optimistic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "where"),
    [pytest.param("mlp", "commands.train.network.NetworkLearner.export", marks=torch),
     ("logistic", "classical.fitted_file.check_parity")],
)  # fmt: skip
def test_a_file_that_differs_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, where: str
) -> None:
    def differs(*_: object) -> None:
        raise ParityError("The answers differ by 0.2")

    monkeypatch.setattr(f"opsin.{where}", differs)
    with pytest.raises(ParityError):
        opsin.train("digits", model=model, runs=tmp_path, quiet=True)
    (path,) = tmp_path.iterdir()
    state, cause = RunDirectory(path).state()
    assert state == "failed" and "differ by 0.2" in str(cause)
    resumable = f"opsin resume {path}" in (path / "log.txt").read_text(encoding="utf-8")
    assert resumable == (model == "mlp")
    assert not (path / "classifier.onnx").exists()
    assert not (path / "report.json").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"model": "cnn"}, "cnn", marks=torch),
        pytest.param({"model": "mlp", "device": "tpu"}, "tpu", marks=torch),
        ({"model": "svm", "device": "gpu"}, "gpu"), ({"model": "svm", "classes": ["3"]}, "class"),
        ({"model": "knn", "classes": ["0", "x"]}, "x"), ({"model": "knn", "neighbours": 0}, "0"),
        ({"model": "logistic", "epochs": 5}, "no option epochs"),
        ({"model": "forest", "budget": "10m"}, "no option budget"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_work_makes_no_directory(
    tmp_path: Path, train: Train, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(OpsinError, match=said):
        train("digits", **options)
    assert not (tmp_path / "runs").exists()


def test_runs_that_cannot_be_written_are_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="not a directory"):  # and not that there is no source
        opsin.train(tmp_path / "none", model="svm", runs=tmp_path / "file" / "runs", quiet=True)


def test_a_full_disk_is_one_clear_error(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left on device"):
        opsin.train(digits, model="logistic", runs=tmp_path, quiet=True)
    (path,) = tmp_path.iterdir()
    assert {file.name for file in path.iterdir()} == {"log.txt", ".lock"}


@pytest.mark.drawn
@pytest.mark.parametrize("model", [pytest.param("mlp", marks=torch), "logistic"])
def test_a_test_part_of_copies_is_told_before_and_judges_nothing(
    tmp_path: Path, model: str
) -> None:
    write_shapes(tmp_path / "both" / "train")
    write_shapes(tmp_path / "both" / "test", count=3)
    options: dict[str, Any] = {"epochs": 1} if model == "mlp" else {}
    planned = opsin.plan(tmp_path / "both", model=model, quiet=True, **options)
    assert any("every test image (6) has an exact copy" in note for note in planned.notes)
    notes = Notes()
    run = opsin.train(
        tmp_path / "both", model=model, runs=tmp_path / "runs", watcher=notes, **options
    )
    assert any("every test image (6) has an exact copy" in note for note in notes.notes)
    assert (run.directory.state()[0], run.report.split) == ("done", "val")
    assert "test" not in run.report.figures
    page = run.directory.page.read_text(encoding="utf-8")
    assert "every test image (6) has an exact copy" in page and "optimistic" in page


@pytest.mark.drawn
def test_near_duplicates_alone_leave_the_test_part_to_judge(tmp_path: Path, train: Train) -> None:
    """Every test image is a slightly brighter copy of a training image."""
    random = np.random.default_rng(0)
    for number in range(24):
        pixels = random.integers(0, 240, (32, 32, 3), np.uint8)
        for part, brighter in (("train", 0), *([("test", 2)] if number < 4 else [])):
            folder = tmp_path / "both" / part / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels + np.uint8(brighter)).save(folder / f"{number}.png")
    run = train(tmp_path / "both", model="logistic")
    assert run.report.leaks == Leaks(exact=0, near=4, all_copied=False)
    assert run.report.split == "test"
    assert run.figures.without_leaks is None
    assert run.directory.page.is_file()


def fails(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("no ink")


@pytest.mark.drawn
@pytest.mark.parametrize(
    "failing",
    [
        {"run_figures.draw_reliability": "the figure calibration", "model_card": "the model card"},
        {"svg_of": "the figure calibration"},
    ],
    ids=" and ".join,
)
def test_a_failing_figure_costs_that_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: dict[str, str]
) -> None:
    for part in failing:
        monkeypatch.setattr(f"opsin.commands.report.{part}", fails)
    notes = Notes()
    run = opsin.train("digits", model="logistic", runs=tmp_path, watcher=notes)
    assert run.directory.state() == ("done", None)
    for name in failing.values():
        assert any(f"{name} could not be made" in note and "no ink" in note for note in notes.notes)
    missing = run.directory.page.read_text("utf-8").count("This figure could not be drawn.")
    assert missing > 1 if "svg_of" in failing else missing == 1
    assert run.directory.card.is_file() == ("model_card" not in failing)
    assert run.classifier().predict(np.zeros((8, 8), np.uint8)).label


def test_a_fitting_cannot_be_resumed_and_says_what_to_do(forest: opsin.Run, tmp_path: Path) -> None:
    for state in ("done", "stopped"):
        path = tmp_path / f"run {state}"
        shutil.copytree(forest.path, path)
        RunDirectory(path).set_status(state)
        with pytest.raises(RunError) as caught:
            opsin.resume(path, quiet=True)
        assert "fitted in one go" in caught.value.message
        assert "opsin train digits --model forest" in caught.value.advice


def test_answers_are_computed_where_it_is_said(
    train: Train, digits: Dataset, stand_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def watched(file: opsin.Classifier, *rest: Any) -> float:
        compared.append(file.device)
        return check_parity(file, *rest)

    monkeypatch.setattr(fitted_file, "check_parity", watched)
    run = train(digits, model="logistic", images=200, side=4, device=stand_in)
    assert run.recipe.training.device == stand_in
    assert run.report.training.answered_on == stand_in
    assert run.report.training.device.endswith(f"; answers on {stand_in}")
    assert run.classifier(device="cpu").device == "cpu"
    figures = opsin.evaluate(run.path, "digits", device=stand_in)
    assert figures.model_dump(mode="json", exclude_unset=True)["device"] == stand_in
    assert compared == ["cpu"]


def test_ctrl_c_ends_a_fitting_at_once(tmp_path: Path, digits: Dataset) -> None:
    with pytest.raises(KeyboardInterrupt):
        opsin.train(
            digits, model="forest", trees=10_000, runs=tmp_path, watcher=Notes(interrupt_at=4)
        )
    (path,) = tmp_path.iterdir()
    state, cause = RunDirectory(path).state()
    assert state == "stopped" and "cannot be left half done" in str(cause)
    assert not (path / "classifier.onnx").exists()
