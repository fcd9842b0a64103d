"""Smaller files pass a gate on real images, which counts as a look at them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.commands.export import smaller
from opsin.commands.export.smaller import To
from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from tests.commands.export import shipped
from tests.conftest import Train, write_shapes

pytestmark = pytest.mark.torch


@pytest.fixture
def own(run: opsin.Run, tmp_path: Path) -> Path:
    # Without the looks that other tests took at the session's run.
    ignored = shutil.ignore_patterns("looks.jsonl")
    return Path(shutil.copytree(run.path, tmp_path / "own", ignore=ignored))


@pytest.mark.parametrize(("to", "precision"), [("int8", "int8"), ("fp16", "float16")])
def test_the_file_lies_beside_its_original_and_is_a_classifier(
    to: To, precision: str, own: Path
) -> None:
    # By force: an image more of 195 would be too many.
    exported = shipped(own, to, force=True)
    assert exported.path == own / f"classifier-{to}.onnx"
    assert exported.bytes == exported.path.stat().st_size < 0.7 * exported.bytes_before
    classifier, original = opsin.Classifier(exported.path), opsin.Classifier(own)
    data = opsin.load("digits")
    test = data.split.test
    images, labels = data.images[test], data.labels[test]
    old, new = original.probabilities(images), classifier.probabilities(images)
    assert (exported.part, exported.images) == ("test", len(test))
    assert exported.before and exported.after
    assert exported.before.accuracy == pytest.approx((old.argmax(1) == labels).mean())
    assert exported.after.accuracy == pytest.approx((new.argmax(1) == labels).mean())
    assert exported.labels_changed == (old.argmax(1) != new.argmax(1)).sum()
    assert exported.largest_difference == pytest.approx(np.abs(old - new).max(), rel=1e-5)
    assert classifier.metadata.precision == precision
    assert classifier.metadata.score
    assert classifier.metadata.score.accuracy == exported.after.accuracy
    # It still says "none of these" about as often.
    assert exported.after.refused == pytest.approx(exported.before.refused, abs=0.05)
    assert not [path for path in own.iterdir() if path.name.startswith(".scratch")]


def test_each_export_is_a_look_at_the_runs_own_test_set(own: Path) -> None:
    first = shipped(own, "fp16").looks
    second = shipped(own, "fp16").looks
    assert (first, second) == (2, 3)  # the training looked once
    directory = RunDirectory(own)
    lines = [json.loads(line) for line in directory.looks.read_text().splitlines()]
    key = directory.read(DatasetRecord).test_set
    assert [line["test_set"] for line in lines] == [key, key]


def test_a_file_that_falls_too_far_is_not_written(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smaller, "MOST_LOST", -1.0)
    with pytest.raises(opsin.ParityError, match=r"instead of 0\.\d{4}.*Nothing was written"):
        shipped(own, "int8")
    assert not (own / "classifier-int8.onnx").exists()
    assert RunDirectory(own).looks.is_file()  # looked all the same
    forced = shipped(own, "int8", force=True)
    assert forced.forced and forced.path.is_file()


def test_nothing_else_is_ever_overwritten(own: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for other in (notes, own / "classifier.onnx", own):
        with pytest.raises(opsin.RecipeError, match="no earlier export"):
            shipped(own, "fp16", out=other)
    assert notes.read_text() == "mine"
    exported = shipped(own, "fp16", out=tmp_path / "new" / "half.onnx")
    first = exported.path.read_bytes()
    again = shipped(own, "fp16", out=exported.path)
    assert again.path.read_bytes() == first
    with pytest.raises(opsin.RecipeError, match="no earlier export"):
        shipped(own, "int8", out=exported.path)


def test_what_cannot_become_smaller_is_refused(own: Path) -> None:
    half = shipped(own, "fp16").path
    with pytest.raises(opsin.ModelFileError, match="in float16 already"):
        shipped(half, "int8")
    with pytest.raises(opsin.RecipeError, match="not 'int4'"):
        shipped(own, "int4")


def test_without_test_images_the_figures_are_called_optimistic(
    tmp_path: Path, train: Train
) -> None:
    folder = write_shapes(tmp_path / "shapes", 40)
    run = train(folder, model="mlp", epochs=1, test_fraction=0)
    exported = shipped(run, "int8", force=True)
    assert (exported.part, exported.optimistic, exported.looks) == ("val", True, None)
    assert not run.directory.looks.exists()
    assert "optimistic" in exported.verdict
