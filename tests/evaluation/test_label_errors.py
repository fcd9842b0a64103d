"""Planted label errors are found, and a classifier that knows nothing accuses nobody."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from opsin.core.errors import MissingExtraError
from opsin.evaluation.mistakes import clear_examples, doubt_labels, expect, suspects, too_weak


def planted(
    seed: int, count: int = 1200, classes: int = 4, share: float = 0.06, sureness: float = 4.0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return answers of a good classifier, labels with errors, and the true ones."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) % classes
    logits = random.normal(size=(count, classes))
    logits[np.arange(count), truth] += sureness
    probabilities = softmax(logits, axis=1).astype(np.float32)
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
    assert (found.scores.min(), found.scores.max()) >= (0, 0)
    assert found.scores.max() <= 1


def test_clean_labels_and_a_sure_classifier_have_no_suspects() -> None:
    probabilities, _, truth = planted(0, share=0.0, sureness=12.0)
    assert len(suspects(probabilities, truth)) == 0


@pytest.mark.parametrize("labels", [[], [1], [1, 1, 1]])
def test_one_class_cannot_be_confused(labels: list[int]) -> None:
    probabilities = np.full((len(labels), 2), 0.5, np.float32)
    assert len(suspects(probabilities, np.array(labels, np.int64))) == 0


def test_answers_that_are_no_numbers_are_passed_over() -> None:
    probabilities, labels, _ = planted(1)
    expected = suspects(probabilities[1:], labels[1:])
    probabilities[0] = np.nan
    found = suspects(probabilities, labels)
    assert found.rows.tolist() == (expected.rows + 1).tolist()


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


def guesses(seed: int, count: int = 154, classes: int = 10) -> NDArray[np.float32]:
    """Return answers by chance, as unsure as an untrained network's."""
    random = np.random.default_rng(seed)
    return softmax(0.1 * random.normal(size=(count, classes)), axis=1).astype(np.float32)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_by_chance_nobody_is_accused(seed: int) -> None:
    labels = np.arange(154) % 10
    answers = guesses(seed)
    assert len(suspects(answers, labels)) > 77  # as many as confident learning names
    found, evidence = doubt_labels(answers, labels, list("abcdefghij"))
    assert len(found) == 0
    assert evidence.too_weak
    assert evidence.expected is None


def test_little_better_than_chance_is_too_weak_as_well() -> None:
    labels = np.arange(2000) % 10
    answers = guesses(1, 2000)
    answers += 0.015 * np.eye(10, dtype=np.float32)[labels]
    assert 0.2 < (answers.argmax(axis=1) == labels).mean() < 0.8
    found, evidence = doubt_labels(answers, labels, list("abcdefghij"))
    assert len(found) == 0
    assert "of 2,000 labels, more than one in five" in evidence.too_weak


def test_the_bar_is_the_commonest_class() -> None:
    labels = np.repeat([0, 1], [90, 10])
    assert "always answering a" in too_weak(np.arange(100) < 92, labels, "ab")
    assert too_weak(np.arange(100) < 99, labels, "ab") == ""


@settings(max_examples=5)
@given(seed=st.integers(0, 10_000))
def test_a_trial_tells_about_how_many_planted_errors_are_found(seed: int) -> None:
    probabilities, _, truth = planted(seed, share=0.0)
    wrong = np.random.default_rng(seed).permutation(len(truth))[: len(truth) // 20]
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + 1) % 4
    found, evidence = doubt_labels(probabilities, labels, "abcd")
    first = found.rows[: len(wrong)]
    assert evidence.expected is not None
    # The trial counts the errors that are there already as right: it promises no more than holds.
    assert evidence.expected.precision <= np.isin(first, wrong).mean() + 0.1
    assert evidence.expected.precision > 0.3


def test_a_list_whose_first_are_no_better_than_the_others_is_none() -> None:
    # Sure of everything, and wrong as often as right about the rest: a flip is no more doubtful.
    labels = np.arange(400) % 2
    answers = np.full((400, 2), 0.01, np.float32)
    said = labels.copy()
    said[:72] = 1 - said[:72]
    answers[np.arange(400), said] = 0.99
    found, evidence = doubt_labels(answers, labels, "ab")
    assert evidence.expected is not None
    assert evidence.expected.precision < 0.25
    assert (len(found), evidence.too_weak.rpartition(", ")[2]) == (0, "fewer than a quarter")


@pytest.mark.parametrize("share", [0.03, 0.1, 0.15])
def test_many_wrong_labels_do_not_silence_a_classifier_that_knows(share: float) -> None:
    probabilities, labels, truth = planted(0, sureness=6.0, share=share)
    found, evidence = doubt_labels(probabilities, labels, "abcd")
    assert evidence.too_weak == ""
    assert (labels != truth)[found.rows].mean() > 0.8


@pytest.mark.parametrize(("count", "classes"), [(1, 2), (2, 2), (7, 3), (40, 30)])
def test_few_images_are_no_hindrance(count: int, classes: int) -> None:
    labels = np.arange(count) % classes
    answers = np.full((count, classes), 0.1 / classes, np.float32)
    answers[np.arange(count), labels] += 0.9
    found, _ = doubt_labels(answers, labels, [str(number) for number in range(classes)])
    assert len(found) == 0
    assert expect(answers, labels, 1).first == 1


def test_a_label_nearly_as_probable_as_the_answer_is_not_named() -> None:
    probabilities, labels, _ = planted(0, share=0.1, sureness=2.5)
    named = doubt_labels(probabilities, labels, "abcd")[0].rows
    assert 0 < len(named) < len(suspects(probabilities, labels))
    assert (probabilities[named].max(axis=1) >= 7 * probabilities[named, labels[named]]).all()
