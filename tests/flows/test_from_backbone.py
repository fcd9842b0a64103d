"""A head on a pretrained network as its users see it; PyTorch is not needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.core.artifacts.records import JudgedImages
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.evaluation.intervals import widened
from opsin.evaluation.metrics import measure
from tests.backbones.small_networks import network
from tests.conftest import Cli, Train, only_json


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A small network with random weights, in a folder with blanks and letters of two scripts."""
    folder = tmp_path / "vortrainierte Netze – сети"
    folder.mkdir()
    file = folder / "small.onnx"
    file.write_bytes(network())
    return file


@pytest.mark.drawn
def test_a_run_is_made_and_answers_wherever_it_is(
    cli: Cli, shapes: Path, backbone: Path, tmp_path: Path
) -> None:
    process = cli(
        "train", shapes, "--from", backbone, "--prepare=-1..1", "--runs", "runs", "--json"
    )
    report = only_json(process)
    assert report["model"] == "backbone"
    assert "licence: unknown" in report["reasons"]["Backbone"]
    assert report["file"]["difference"] < 1e-4
    (run,) = (tmp_path / "runs").iterdir()
    assert "Pretrained network inside: small" in (run / "README.md").read_text("utf-8")
    recipe = json.loads((run / "recipe.json").read_text())
    assert recipe["model"]["backbone"] == str(backbone)
    assert recipe["versions"]["backbone"].startswith("sha256:")
    assert recipe["data"]["size"] == [32, 32]
    moved = tmp_path / "classifier.onnx"
    moved.write_bytes((run / "classifier.onnx").read_bytes())
    image = next(shapes.rglob("*.png"))
    backbone.unlink()  # the file holds all that it needs
    answers = [only_json(cli("predict", where, image, "--json")) for where in (run, moved)]
    one, other = (answer["predictions"][0]["probabilities"] for answer in answers)
    assert one == other


@pytest.mark.drawn
def test_judged_by_all_it_says_how_sure_that_is_and_how_it_knows_the_unknown(
    shapes: Path, backbone: Path, train: Train
) -> None:
    run = train(shapes, backbone=backbone, prepare="-1..1")
    report = run.report
    assert report.split == "out_of_fold"
    kept = RunPredictions.read(run.directory).of("out_of_fold")
    judged = run.directory.read(JudgedImages)
    told = dict(zip(judged.rows, judged.right, strict=True))
    assert told == dict(zip(kept.rows.tolist(), kept.right.tolist(), strict=True))
    narrow = measure(kept.probabilities, kept.labels, run.classifier().classes, kept.groups)
    assert (report.judged.low, report.judged.high) == widened(
        narrow.accuracy, (narrow.low, narrow.high)
    )
    assert report.failures and report.ood
    slices = report.failures.slices
    assert (slices.low, slices.high) == (report.judged.low, report.judged.high)
    assert [each.name for each in report.ood.classes] == list(run.classifier().classes)
    assert report.ood.far > 0.5
    assert "for a class left out (lowest: " in run.directory.page.read_text(encoding="utf-8")


def test_noise_for_a_given_tests_labels_changes_no_answer(backbone: Path, train: Train) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 90, (90, 32, 32, 3), np.uint8), np.arange(90) % 2
    images[labels == 1, 8:24, 8:24] += 120
    runs = []
    for tested in (labels[:30], random.integers(0, 2, 30)):
        data = opsin.from_arrays(images[30:], labels[30:], test=(images[:30], tested))
        runs.append(train(data, backbone=backbone, prepare="-1..1"))
    one, two = runs
    assert one.accuracy > two.accuracy
    assert one.report.figures["val"] == two.report.figures["val"]
    assert (one.report.calibration, one.report.reject) == (
        two.report.calibration,
        two.report.reject,
    )
    first, second = (run.classifier().probabilities(images) for run in runs)
    assert np.array_equal(first, second)


def test_of_many_images_only_the_last_features_are_computed(
    shapes: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opsin.commands.train.head.MANY_IMAGES", 5)
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    run = opsin.train(shapes, backbone=backbone, prepare="-1..1", runs=tmp_path, quiet=True)
    facts = run.classifier().metadata.backbone
    assert facts is not None and facts.at == ("flat",)
    kept = list((tmp_path / "cache" / "features").glob("*/about.json"))
    assert kept and all("16 numbers" in file.read_text() for file in kept)
