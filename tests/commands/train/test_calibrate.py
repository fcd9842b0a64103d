"""A run's file is calibrated on validation images and refuses what it never saw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.evaluation.out_of_distribution import strange_images
from opsin.runtime.prediction import CANNOT_TELL, NONE_OF_THESE
from tests.conftest import Cli, only_json

pytestmark = pytest.mark.torch


def test_what_the_report_says_is_in_the_file(run: opsin.Run) -> None:
    metadata, report = run.classifier().metadata, run.report
    assert metadata.calibration and metadata.reject and report.calibration and report.reject
    assert report.calibration.temperature == metadata.calibration.temperature
    assert report.reject.max_ood_score == metadata.reject.max_ood_score
    before, after = metadata.calibration.log_loss
    assert after <= before
    figures = report.figures["val"]
    assert metadata.calibration.images == figures.images
    # The temperature is fitted for the mix of the validation images, which is nearly the same.
    assert figures.log_loss == pytest.approx(after, rel=0.05)
    assert figures.uncalibrated
    assert figures.uncalibrated.log_loss == pytest.approx(before, rel=0.05)


def test_strange_images_are_refused_at_every_door_and_known_ones_seldom(
    run: opsin.Run, cli: Cli, tmp_path: Path
) -> None:
    classifier = run.classifier()
    answers = list(classifier.iter_answers(strange_images(8, 8, 1, count=64)["noise"]))
    reject = classifier.metadata.reject
    assert reject is not None
    scores = [part.ood_score for part in answers if part.ood_score is not None]
    refused = np.concatenate(scores) > reject.max_ood_score
    assert refused.mean() > 0.5
    assert run.figures.refused and run.figures.refused.share < 0.1
    kept = run.directory.load_arrays(run.directory.predictions)
    assert len(kept["test_ood_score"]) == run.figures.images
    grey = tmp_path / "grey.png"
    Image.new("L", (8, 8), 128).save(grey)
    answer = classifier.predict(grey)
    assert answer.rejected and answer.answer == NONE_OF_THESE and answer.label in classifier.classes
    assert "None of these" in answer._repr_html_()
    said = only_json(cli("predict", run.path, grey, "--json"))["predictions"][0]
    assert (said["answer"], said["rejected"]) == (NONE_OF_THESE, True)
    assert "none of these   looks unlike" in cli("predict", run.path, grey).stdout


@pytest.mark.drawn
def test_without_a_threshold_no_door_speaks_of_similarity(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 128)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(low, low + 128, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    small = opsin.train(
        tmp_path / "photos", model="mlp", epochs=1, runs=tmp_path / "runs", quiet=True
    )
    assert small.classifier().metadata.reject is None  # fewer than 19 images validate
    ant = tmp_path / "photos" / "dark" / "0.png"
    answer = small.classifier().predict(ant)
    assert answer.rejected is None
    assert answer.ood_score is not None
    assert CANNOT_TELL in answer._repr_html_()
    said = only_json(cli("predict", small.path, ant, "--json"))["predictions"][0]
    assert (said["answer"], said["rejected"]) == (answer.label, None)
    for words in (("predict", small.path, ant), ("inspect", small.path, ant),
                  ("explain", small.path, ant, "--term", "softmax")):  # fmt: skip
        printed = " ".join(cli(*words).stdout.split())
        assert printed.count(CANNOT_TELL) == 1, words
    cli("predict", small.path, ant, "--out", tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.jsonl").read_text())["rejected"] is None
    cli("report", small.path)
    assert "has no threshold" in small.directory.page.read_text("utf-8")
    assert "there is no threshold" in small.directory.card.read_text("utf-8")
