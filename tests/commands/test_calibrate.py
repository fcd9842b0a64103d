"""A run's file is calibrated on validation images and refuses what it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.evaluation.out_of_distribution import strange_images
from opsin.runtime.classifier import NONE_OF_THESE
from tests.conftest import Cli, only_json

pytestmark = pytest.mark.torch


def test_what_the_report_says_is_in_the_file(run: opsin.Run) -> None:
    metadata, report = run.classifier().metadata, run.report
    assert metadata.calibration is not None
    assert metadata.reject is not None
    assert report.calibration is not None
    assert report.calibration.temperature == metadata.calibration.temperature
    assert report.reject is not None
    assert report.reject.max_ood_score == metadata.reject.max_ood_score
    before, after = metadata.calibration.log_loss
    assert after <= before
    figures = report.figures["val"]
    assert metadata.calibration.images == figures.images
    # The temperature is fitted for the mix of the validation images, which is nearly the same.
    assert figures.log_loss == pytest.approx(after, rel=0.05)
    assert figures.uncalibrated is not None
    assert figures.uncalibrated.log_loss == pytest.approx(before, rel=0.05)


def test_strange_images_are_refused_and_known_ones_seldom(run: opsin.Run) -> None:
    classifier = run.classifier()
    answers = list(classifier.iter_answers(strange_images(8, 8, 1, count=64)["noise"]))
    refused = np.concatenate([part.rejected(classifier.metadata.reject) for part in answers])
    assert refused.mean() > 0.5
    assert run.figures.refused is not None
    assert run.figures.refused.share < 0.1
    kept = run.directory.load_arrays(run.directory.predictions)
    assert len(kept["test_ood_score"]) == run.figures.images


def test_none_of_these_is_an_answer_at_every_door(run: opsin.Run, cli: Cli, tmp_path: Path) -> None:
    grey = np.full((8, 8), 128, np.uint8)
    answer = run.classifier().predict(grey)
    assert answer.rejected
    assert answer.answer == NONE_OF_THESE
    assert answer.label in run.classifier().classes
    assert "None of these" in answer._repr_html_()
    from PIL import Image

    Image.fromarray(grey).save(tmp_path / "grey.png")
    said = only_json(cli("predict", run.path, "grey.png", "--json"))["predictions"][0]
    assert (said["answer"], said["rejected"]) == (NONE_OF_THESE, True)
    plain = cli("predict", run.path, "grey.png").stdout
    assert "grey.png   none of these   looks unlike the training images" in plain
