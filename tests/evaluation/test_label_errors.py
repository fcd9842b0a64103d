"""Planted label errors are found, in order, and clean labels are left alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError
from opsin.evaluation.label_errors import clear_examples, suspects


def planted(
    seed: int, count: int = 1200, classes: int = 4, share: float = 0.06, sureness: float = 4.0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return answers of a good classifier, labels with errors, and the true ones."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) % classes
    logits = random.normal(size=(count, classes))
    logits[np.arange(count), truth] += sureness
    shares = np.exp(logits)
    probabilities = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    labels = truth.copy()
    rows = random.permutation(count)[: round(share * count)]
    labels[rows] = (truth[rows] + random.integers(1, classes, len(rows))) % classes
    return probabilities, labels, truth


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_planted_errors_are_found_with_their_class(seed: int) -> None:
    probabilities, labels, truth = planted(seed)
    wrong = labels != truth
    found = suspects(probabilities, labels)
    first = found.rows[: wrong.sum()]
    assert wrong[first].mean() >= 0.8
    assert wrong[found.rows].sum() >= 0.5 * wrong.sum()  # 58% at seed 1734
    hits = wrong[found.rows]
    assert (found.suggested[hits] == truth[found.rows][hits]).mean() > 0.9
    # Ranked, each image once, and never the label itself.
    assert np.all(np.diff(found.scores) <= 0)
    assert len(set(found.rows.tolist())) == len(found)
    assert np.all(found.suggested != labels[found.rows])
    assert found.looked_at == len(labels)
    assert (found.scores.min(), found.scores.max()) >= (0, 0)
    assert found.scores.max() <= 1


def test_the_score_is_the_probability_of_another_class() -> None:
    probabilities, labels, _ = planted(3)
    found = suspects(probabilities, labels)
    own = probabilities[found.rows, labels[found.rows]]
    assert found.scores == pytest.approx(1 - own, abs=1e-6)
    assert found.scores.dtype == np.float32


def test_clean_labels_and_a_sure_classifier_have_no_suspects() -> None:
    probabilities, _, truth = planted(0, share=0.0, sureness=12.0)
    assert len(suspects(probabilities, truth)) == 0


@pytest.mark.parametrize("labels", [[], [1], [1, 1, 1]])
def test_one_class_cannot_be_confused(labels: list[int]) -> None:
    probabilities = np.full((len(labels), 2), 0.5, np.float32)
    found = suspects(probabilities, np.array(labels, np.int64))
    assert (len(found), found.looked_at) == (0, len(labels))


def test_answers_that_are_no_numbers_are_passed_over() -> None:
    probabilities, labels, _ = planted(1)
    expected = suspects(probabilities[1:], labels[1:])
    probabilities[0] = np.nan
    found = suspects(probabilities, labels)
    assert found.rows.tolist() == (expected.rows + 1).tolist()


def test_a_class_without_images_does_no_harm() -> None:
    probabilities, labels, _ = planted(2)
    wider = np.concatenate([probabilities, np.zeros((len(labels), 1), np.float32)], axis=1)
    assert suspects(wider, labels).rows.tolist() == suspects(probabilities, labels).rows.tolist()


def test_without_cleanlab_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(MissingExtraError, match=r"opsin\[evaluate\]"):
        suspects(*planted(0)[:2])


def test_examples_are_right_and_the_most_confident_come_first() -> None:
    probabilities, labels, _ = planted(5)
    rows = clear_examples(probabilities, labels, 2, 5)
    assert len(rows) == 5
    assert set(labels[rows]) == set(probabilities[rows].argmax(axis=1)) == {2}
    assert np.all(np.diff(probabilities[rows, 2]) <= 0)
    right = (labels == 2) & (probabilities.argmax(axis=1) == 2)
    assert probabilities[rows[0], 2] == probabilities[right, 2].max()
    assert len(clear_examples(probabilities, labels, 2, 10_000)) == right.sum()
