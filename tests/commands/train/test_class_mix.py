"""Answers are moved to the mix of classes that they are for, by Bayes' rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import opsin
from opsin.commands.train.calibrate import assumed_mix
from opsin.core.errors import RecipeError
from opsin.data.dataset import Dataset


@pytest.fixture(scope="module")
def overlapping() -> Dataset:
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
BACKBONE = [{"head": head} for head in ("auto", "nearest-mean", "logistic")]


@pytest.mark.parametrize(("asked", "rare"), [("as-trained", 0.05), ("even", 0.5)])
@pytest.mark.parametrize(
    "options",
    [*CLASSICAL, *(pytest.param(each, marks=pytest.mark.torch) for each in BALANCES), *BACKBONE],
    ids=str,
)
def test_the_mix_that_is_stated_is_applied(
    options: dict[str, Any], asked: str, rare: float, overlapping: Dataset, tmp_path: Path,
    backbone: Path,
) -> None:  # fmt: skip
    """It is the one of the answers to images of that mix."""
    if "head" in options:
        options = {**options, "backbone": backbone, "prepare": "-1..1"}
    run = opsin.train(overlapping, runs=tmp_path, quiet=True, class_mix=asked, **options)
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
    overlapping: Dataset, tmp_path: Path
) -> None:
    plain, even = (
        opsin.train(overlapping, model="logistic", class_mix=mix, runs=tmp_path, quiet=True)
        .classifier() for mix in ("as-trained", "even")
    )  # fmt: skip
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
    with pytest.raises(RecipeError, match=r"shares? above 0"):
        assumed_mix(str(shares), digits)
    with pytest.raises(RecipeError, match="no JSON of"):
        assumed_mix("evn", digits)


def test_validation_images_of_another_mix_do_not_move_the_temperature(tmp_path: Path) -> None:
    uneven, even = tones(2000, 0.05, seed=0), tones(800, 0.5, seed=1)
    images, labels = np.concatenate([uneven[0], even[0]]), np.concatenate([uneven[1], even[1]])
    data = opsin.from_arrays(images, labels, ("ok", "bad"))
    rows = np.arange(len(labels))
    split = replace(data.split, train=rows[:2000], val=rows[2000:2400], test=rows[2400:])
    run = opsin.train(replace(data, split=split), model="logistic", runs=tmp_path, quiet=True)
    calibration = run.classifier().metadata.calibration
    assert calibration is not None
    assert calibration.temperature == pytest.approx(1, abs=0.2)
