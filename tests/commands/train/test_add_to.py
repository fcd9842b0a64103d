"""Images added to a run: its parts and folds stay, and both are compared on the old images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import MovedError, OpsinError, RecipeError, RunError, SourceError
from opsin.data.dataset import Dataset
from opsin.data.run_images import load_run_images
from tests.conftest import Notes, Train, write_digits, write_shapes

_NAMES = ("null", "eins", "zwei", "drei", "vier")


def _write(root: Path, digits: Dataset, label: int, *, first: int = 0, count: int = 40) -> Path:
    """A folder of images of a digit, named as its class."""
    rows = np.flatnonzero(digits.labels == label)[first : first + count].tolist()
    return write_digits(root, digits, rows, lambda _: _NAMES[label]) / _NAMES[label]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> tuple[Path, Path]:
    """A folder of three classes, and a run of it."""
    root = tmp_path_factory.mktemp("old")
    for label in (0, 1, 2):
        _write(root / "digits", digits, label)
    run = opsin.train(root / "digits", model="logistic", quiet=True, runs=root / "runs")
    return root / "digits", run.path


def _parts(run: Path) -> dict[bytes, str]:
    directory = RunDirectory(run)
    kept = directory.load_arrays(directory.split)
    return {
        bytes(kept["digests"][row]): part for part in ("train", "val", "test") for row in kept[part]
    }


def test_a_class_joins_and_nothing_judged_is_learnt(
    old: tuple[Path, Path], tmp_path: Path, train: Train, digits: Dataset
) -> None:
    source, before = old
    new = _write(tmp_path, digits, 3)
    run = train(new, add_to=before)
    assert run.recipe.model.name == "logistic"
    assert run.recipe.added_to == str(before)
    assert [Path(place) for place in run.recipe.data.sources] == [source, new]
    now, then = _parts(run.path), _parts(before)
    assert then.items() <= now.items()
    added = [part for digest, part in now.items() if digest not in then]
    assert [added.count(part) for part in ("train", "val", "test")] == [32, 4, 4]
    result = run.report.added
    assert result is not None
    assert (result.run, result.part, result.images) == (before.name, "test", 12)
    assert result.before == opsin.Run(before).accuracy
    assert result.better is None
    (drei,) = result.classes
    assert (drei.name, drei.is_new, drei.images) == ("drei", True, 4)
    assert result.sentence.startswith("The old classes: no difference can be shown (")
    assert f"drei: {drei.accuracy:.2f} ± " in result.sentence
    # And once more: the run that was added to is one like any other.
    again = train(_write(tmp_path / "more", digits, 4), add_to=run)
    assert now.items() <= _parts(again.path).items()


def test_its_images_are_read_again(old: tuple[Path, Path], tmp_path: Path, digits: Dataset) -> None:
    """Copies are left out, and a class in other letters is the one that is there, also later."""
    source, before = old
    new = tmp_path / "new"
    _write(new, digits, 1, first=35, count=15).rename(new / "EINS")  # five of them are known
    _write(new, digits, 3)
    watcher = Notes()
    run = opsin.train(new, add_to=before, watcher=watcher, runs=tmp_path / "runs")
    assert "knows 5 images of these already" in str(watcher.notes)
    report, data = run.report, load_run_images(run.directory)
    assert data.classes == ("drei", "eins", "null", "zwei")
    assert len(data) == 120 + 10 + 40
    assert report.judged.corrected is None, "copies are no corrections"
    (copies,) = report.left_out
    assert (copies.kind, copies.count) == (f"image that {before.name} knows", 5)
    assert report.added is not None
    assert [(one.name, one.is_new) for one in report.added.classes] == [
        ("drei", True),
        ("eins", False),
    ]
    assert "New images of eins: " in report.added.sentence
    labels = run.directory.corrections
    assert opsin.evaluate(run, source, new, labels=labels).images == 17  # its own test


def test_classes_that_change_as_well_are_said_to_hinder_the_comparison(
    old: tuple[Path, Path], tmp_path: Path, digits: Dataset
) -> None:
    source, before = old
    table, watcher = tmp_path / "labels.csv", Notes()
    opsin.change_classes(source, labels=table, call={"eins": "one"})
    new, runs = _write(tmp_path, digits, 3), tmp_path / "runs"
    run = opsin.train(new, add_to=before, labels=table, watcher=watcher, runs=runs)
    assert run.classifier().classes == ("drei", "one", "null", "zwei")
    assert run.report.added is None
    assert f"{before} is not told: The runs have different classes" in str(watcher.notes)


def test_the_same_source_that_has_grown(tmp_path: Path, train: Train, digits: Dataset) -> None:
    for label in (0, 1):
        _write(tmp_path / "photos", digits, label)
    before = train(tmp_path / "photos", model="logistic")
    with pytest.raises(SourceError, match="has no image that"):
        train(tmp_path / "photos", add_to=before)
    new = _write(tmp_path / "photos", digits, 2)
    for place in (new, tmp_path / "photos"):  # the class's folder in it means the same
        run = train(place, add_to=before)
        assert run.recipe.data.sources == (str(tmp_path / "photos"),)
        assert run.report.added and run.report.added.classes[0].name == "zwei"


def test_a_subset_of_classes_is_extended(tmp_path: Path, train: Train, digits: Dataset) -> None:
    for label in (0, 1, 2, 3):
        _write(tmp_path / "photos", digits, label)
    table = tmp_path / "labels.csv"  # other letters do not make another class of it
    opsin.change_classes(tmp_path / "photos", labels=table, call={"null": "Null"})
    before = train(tmp_path / "photos", classes=["zwei", "null"], labels=table, model="logistic")
    run = train(_write(tmp_path, digits, 4), add_to=before)
    assert load_run_images(run.directory).classes == ("zwei", "Null", "vier")


def test_given_parts_leave_a_new_class_its_share(
    tmp_path: Path, train: Train, digits: Dataset
) -> None:
    for label in (0, 1):
        _write(tmp_path / "photos" / "train", digits, label)
        _write(tmp_path / "photos" / "test", digits, label, first=40, count=10)
    before = train(tmp_path / "photos", model="logistic")
    run = train(_write(tmp_path, digits, 2), add_to=before)
    assert _parts(before.path).items() <= _parts(run.path).items()
    assert run.report.added
    assert (run.report.added.images, run.report.added.classes[0].images) == (20, 4)


def test_folds_stay(tmp_path: Path, train: Train, backbone: Path) -> None:
    """Each old image is judged in the fold where it was judged before."""
    source = write_shapes(tmp_path / "shapes", 20)
    before = train(source, backbone=backbone)
    assert before.report.split == "out_of_fold"
    new = write_shapes(tmp_path / "new", 20, ("cross",)) / "cross"
    run = train(new, add_to=before)
    folds = []
    for one in (before, run):
        kept = one.directory.load_arrays(one.directory.split)
        folds.append(dict(zip(map(bytes, kept["digests"]), kept["fold"].tolist(), strict=True)))
    assert folds[0].items() <= folds[1].items()
    others = [fold for digest, fold in folds[1].items() if digest not in folds[0]]
    assert sorted(np.unique(others, return_counts=True)[1].tolist())[0] >= 2, "spread by class"
    added = run.report.added
    assert added and (added.part, added.images) == ("out_of_fold", 40)
    assert run.recipe.model.backbone == str(backbone)  # type: ignore[union-attr]


def test_what_cannot_be_added(old: tuple[Path, Path], tmp_path: Path, digits: Dataset) -> None:
    source, before = old
    new, runs = _write(tmp_path, digits, 3), tmp_path / "runs"

    def refused(
        error: type[OpsinError],
        words: str,
        place: Path = new,
        run: Path = before,
        **options: object,
    ) -> None:
        with pytest.raises(error, match=words):
            opsin.train(place, add_to=run, quiet=True, runs=runs, **options)  # type: ignore[arg-type]
        assert not list(runs.glob("*")), "a run was begun"

    (tmp_path / "empty").mkdir()
    refused(SourceError, "is empty", tmp_path / "empty")
    refused(SourceError, "no image that", _write(tmp_path / "copies", digits, 0).parent / "null")
    refused(RunError, "does not exist", run=tmp_path / "nowhere")
    (tmp_path / "labels.csv").write_text("name,label\nnowhere.png,null\n", encoding="utf-8")
    refused(SourceError, "are not here", labels=tmp_path / "labels.csv")
    refused(RecipeError, "decides the size", size=16)
    refused(RecipeError, "decides the model", model="forest")
    copy = tmp_path / "copy"
    shutil.copytree(before, copy)
    (copy / "report.json").unlink()
    refused(RunError, "has no report.json", run=copy)
    shutil.copy(before / "report.json", copy)
    (copy / "split.npz").write_bytes(b"damaged")
    refused(RunError, "split.npz", run=copy)
    away = source.rename(source.with_name("away"))
    refused(MovedError, "digits")
    away.rename(source)
