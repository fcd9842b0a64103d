"""Answers are moved to the mix of classes that they are for, by Bayes' rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import opsin
from opsin.commands.class_mix import class_mix, in_words
from opsin.core.errors import RecipeError
from opsin.data.dataset import Dataset


@pytest.fixture(scope="module")
def uneven() -> Dataset:
    """Digits: many zeros, fewer ones, few sevens."""
    digits = opsin.load("digits", classes=("0", "1", "7"))
    images, labels = np.asarray(digits.images), digits.labels
    rows = np.concatenate([
        np.flatnonzero(labels == label)[:count] for label, count in enumerate((150, 80, 30))
    ])  # fmt: skip
    return opsin.from_arrays(images[rows], labels[rows], digits.classes)


def answers(
    data: Dataset, runs: Path, **options: Any
) -> tuple[opsin.Classifier, NDArray[np.float32]]:
    run = opsin.train(data, runs=runs, quiet=True, **options)
    file = opsin.Classifier(run.path / "classifier.onnx")
    return file, file.probabilities(np.asarray(data.images[:60]))


def check(data: Dataset, runs: Path, **options: Any) -> None:
    """Compare the answers for an even mix with those for that of the training images."""
    plain, expected = answers(data, runs, **options)
    moved, found = answers(data, runs, class_mix="even", **options)
    mix = moved.metadata.class_mix
    assert plain.metadata.class_mix is None
    assert mix is not None
    expected = expected.astype(np.float64) * np.array(mix.assumed) / np.array(mix.learnt)
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_model_without_layers_assumes_an_even_mix(uneven: Dataset, tmp_path: Path) -> None:
    check(uneven, tmp_path, model="logistic")


@pytest.mark.torch
def test_a_network_assumes_an_even_mix(uneven: Dataset, tmp_path: Path) -> None:
    check(uneven, tmp_path, model="mlp", epochs=2, balance="none")


@pytest.mark.torch
def test_a_network_that_was_balanced_learnt_an_even_mix(uneven: Dataset, tmp_path: Path) -> None:
    shares = tmp_path / "mix.json"
    shares.write_text(json.dumps({"0": 8, "1": 1, "7": 1}))
    file, _ = answers(uneven, tmp_path, model="mlp", epochs=1, balance="weights",
                      class_mix=str(shares))  # fmt: skip
    mix = file.metadata.class_mix
    assert mix is not None
    np.testing.assert_allclose(mix.learnt, 1 / 3)
    np.testing.assert_allclose(mix.assumed, (0.8, 0.1, 0.1))


def test_a_file_says_the_shares_and_the_run_repeats_them(uneven: Dataset, tmp_path: Path) -> None:
    shares = tmp_path / "доли.json"
    shares.write_text(json.dumps({"0": 0.5, "1": 0.25, "7": 0.25}))
    run = opsin.train(uneven, model="logistic", class_mix=str(shares), runs=tmp_path, quiet=True)
    assert run.report.reasons["Class mix"] == "answers assume 0 50%, 7 25%, 1 25%"
    mix = class_mix("even", uneven, balanced=False)
    assert mix is not None
    assert in_words(mix, uneven.classes) == "answers assume that all classes are equally common"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2]",
        '{"0": 1, "1": 1}',
        '{"0": 1, "1": 1, "7": 0}',
        '{"0": -1, "1": 1, "7": 1}',
        '{"0": 1, "1": 1, "7": 1, "8": 1}',
        '{"0": 1, "1": 1, "7": "many"}',
    ],
)
def test_a_file_that_says_something_else_is_refused(
    content: str, uneven: Dataset, tmp_path: Path
) -> None:
    shares = tmp_path / "mix.json"
    shares.write_text(content)
    with pytest.raises(RecipeError, match="share above 0 for each class"):
        class_mix(str(shares), uneven, balanced=False)
    with pytest.raises(RecipeError, match="no file"):
        class_mix("evn", uneven, balanced=False)
