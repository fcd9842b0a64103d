"""A run's file is calibrated on validation images alone, for a mix, and refuses strangers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import opsin
from opsin.commands.train.calibrate import assumed_mix, try_views
from opsin.core.events import SILENT
from opsin.core.metadata import Views
from opsin.evaluation.out_of_distribution import strange_images
from opsin.runtime.prediction import CANNOT_TELL, NONE_OF_THESE, Answers
from tests.conftest import Cli, Train, only_json, write_shapes


@pytest.mark.torch
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


@pytest.mark.torch
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


@pytest.mark.torch
@pytest.mark.drawn
def test_without_a_threshold_no_door_speaks_of_similarity(
    cli: Cli, tmp_path: Path, train: Train
) -> None:
    small = train(write_shapes(tmp_path / "photos", 30), model="mlp", epochs=1)
    assert small.classifier().metadata.reject is None  # fewer than 19 images validate
    ant = tmp_path / "photos" / "disc" / "0.png"
    answer = small.classifier().predict(ant)
    assert answer.rejected is None
    assert answer.ood_score is not None
    assert CANNOT_TELL in answer._repr_html_()
    said = only_json(cli("predict", small.path, ant, "--json"))["predictions"][0]
    assert (said["answer"], said["rejected"]) == (answer.label, None)
    for words in (
        ("predict", small.path, ant),
        ("inspect", small.path, ant),
        ("explain", small.path, ant, "--term", "softmax"),
    ):
        printed = " ".join(cli(*words).stdout.split())
        assert printed.count(CANNOT_TELL) == 1, words
    cli("predict", small.path, ant, "--out", tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.jsonl").read_text())["rejected"] is None
    cli("report", small.path)
    assert "has no threshold" in small.directory.page.read_text("utf-8")
    assert "there is no threshold" in small.directory.card.read_text("utf-8")


@pytest.fixture(scope="module")
def overlapping() -> opsin.Dataset:
    return opsin.from_arrays(*tones(3000, 0.05, seed=0), ("ok", "bad"))


def tones(count: int, rare: float, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images whose tone is drawn from the Gaussian of their class."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < rare).astype(np.int64)
    tone = 128 + 25 * random.normal(np.where(labels == 1, 0.72, -0.72))
    noise = random.normal(0, 1, (count, 8, 8, 3))
    return (tone[:, None, None, None] + noise).round().clip(0, 255).astype(np.uint8), labels


BALANCES = [
    {"model": "mlp", "epochs": 10, "balance": how} for how in ("none", "weights", "sampling")
]
CLASSICAL = [
    {"model": "logistic"}, {"model": "forest", "trees": 50}, {"model": "knn", "neighbours": 50},
    {"model": "svm"},
]  # fmt: skip
BACKBONE = [{"head": head} for head in ("nearest-mean", "logistic")]  # "auto" takes one


@pytest.mark.parametrize(("asked", "rare"), [("as-trained", 0.05), ("even", 0.5)])
@pytest.mark.parametrize(
    "options",
    [*CLASSICAL, *(pytest.param(each, marks=pytest.mark.torch) for each in BALANCES), *BACKBONE],
    ids=str,
)
def test_the_mix_that_is_stated_is_applied(
    options: dict[str, Any],
    asked: str,
    rare: float,
    overlapping: opsin.Dataset,
    train: Train,
    backbone: Path,
) -> None:
    """It is the one of the answers to images of that mix."""
    if "head" in options:
        options = {**options, "backbone": backbone, "prepare": "-1..1"}
    run = train(overlapping, class_mix=asked, **options)
    file = run.classifier()
    assert file.metadata.class_mix is not None
    assert file.metadata.class_mix == run.report.class_mix
    assert file.metadata.class_mix.assumed[1] == pytest.approx(rare, abs=0.01)
    images, labels = tones(4000, rare, seed=1)
    found = file.probabilities(images)
    assert found[:, 1].mean() == pytest.approx(rare, abs=min(0.2, rare / 2))
    if asked == "as-trained":  # 0.951 by the Gaussians themselves
        assert (found.argmax(axis=1) == labels).mean() > 0.94


def test_an_even_mix_is_one_step_of_bayes_from_that_of_the_training_images(
    overlapping: opsin.Dataset, train: Train
) -> None:
    plain, even = (
        train(overlapping, model="logistic", class_mix=mix).classifier()
        for mix in ("as-trained", "even")
    )
    images, mix = tones(60, 0.5, seed=1)[0], even.metadata.class_mix
    assert mix is not None
    expected = plain.probabilities(images) * np.array(mix.assumed) / np.array(mix.learnt)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(even.probabilities(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    "content",
    ["", "[1, 2]", '{"0": 1, "1": 1}', '{"0": 1, "1": 1, "7": 0}',
     '{"0": 1, "1": 1, "7": 1, "8": 1}', '{"0": 1, "1": 1, "7": "many"}'],
)  # fmt: skip
def test_a_file_that_says_something_else_is_refused(content: str, tmp_path: Path) -> None:
    digits, shares = opsin.load("digits", classes=("0", "1", "7")), tmp_path / "mix.json"
    shares.write_text(content)
    with pytest.raises(opsin.RecipeError, match=r"shares? above 0"):
        assumed_mix(str(shares), digits)
    with pytest.raises(opsin.RecipeError, match="no JSON of"):
        assumed_mix("evn", digits)


def test_validation_images_of_another_mix_do_not_move_the_temperature(train: Train) -> None:
    uneven, even = tones(2000, 0.05, seed=0), tones(800, 0.5, seed=1)
    images, labels = np.concatenate([uneven[0], even[0]]), np.concatenate([uneven[1], even[1]])
    data = opsin.from_arrays(images, labels, ("ok", "bad"))
    rows = np.arange(len(labels))
    split = replace(data.split, train=rows[:2000], val=rows[2000:2400], test=rows[2400:])
    run = train(replace(data, split=split), model="logistic")
    calibration = run.classifier().metadata.calibration
    assert calibration is not None
    assert calibration.temperature == pytest.approx(1, abs=0.2)


def answered(classifier: opsin.Classifier, dataset: opsin.Dataset) -> Answers:
    return Answers(classifier.probabilities(dataset.images[dataset.split.val]), None)


def test_views_that_put_more_wrong_are_not_used(nearest_mean: Path, digits: opsin.Dataset) -> None:
    classifier = opsin.Classifier(nearest_mean)
    alone = answered(classifier, digits)
    found = try_views(classifier, alone, digits, Views(flip=True, shift=1), SILENT)
    assert (found.images, found.helped) == (len(digits.split.val), False)
    assert found.lost > found.gained
    labels, images = digits.labels[digits.split.val], digits.images[digits.split.val]
    mean = alone.probabilities + classifier.probabilities(images[:, :, ::-1])
    gained = (mean.argmax(axis=1) == labels).sum()
    assert found.gained - found.lost == gained - (alone.probabilities.argmax(1) == labels).sum()


def test_views_that_put_more_right_beyond_chance_are_used(
    nearest_mean: Path, digits: opsin.Dataset
) -> None:
    classifier = opsin.Classifier(nearest_mean)
    # As if each image alone were told by a coin: anything is better.
    unsure = Answers(np.roll(answered(classifier, digits).probabilities, 1, axis=1), None)
    found = try_views(classifier, unsure, digits, Views(flip=True, shift=0), SILENT)
    assert found.gained > found.lost
    assert found.helped
    assert "help this classifier on its" in found.words


@pytest.mark.parametrize("shift", [0, 2])
def test_what_was_not_varied_is_not_tried(
    nearest_mean: Path, digits: opsin.Dataset, shift: int
) -> None:
    classifier = opsin.Classifier(nearest_mean)
    validation = answered(classifier, digits)
    found = try_views(classifier, validation, digits, Views(flip=False, shift=shift), SILENT)
    assert (found.images, found.helped) == (0, False)
