"""A temperature changes no answer, never worsens what it was fitted to, and finds the truth."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from opsin.evaluation.calibration import fit_mix_power, fit_temperature, log_loss_of
from opsin.evaluation.metrics import ScoredAnswers


def drawn(
    seed: int, count: int, classes: int, scale: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits that are ``scale`` times too large, and labels drawn by the right ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, classes))
    chances = softmax(logits, axis=1)
    labels = (chances.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return (scale * logits).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_is_found_again(scale: float) -> None:
    logits, labels = drawn(0, 5000, 5, scale)
    assert fit_temperature(logits, labels) == pytest.approx(scale, rel=0.06)


@given(
    seed=st.integers(0, 999),
    count=st.integers(1, 80),
    classes=st.integers(2, 6),
    scale=st.floats(0.05, 30),
)
def test_log_loss_never_gets_worse(seed: int, count: int, classes: int, scale: float) -> None:
    logits, labels = drawn(seed, count, classes, scale)
    temperature = fit_temperature(logits, labels)
    assert 0.05 <= temperature <= 20
    assert log_loss_of(logits, labels, temperature) <= log_loss_of(logits, labels)
    warm = logits / np.float32(temperature)
    assert (warm.argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("power", [0.4, 1.0, 1.6])
def test_the_power_of_the_class_mix_is_found_again(power: float) -> None:
    shares = np.array([0.7, 0.2, 0.1])
    random = np.random.default_rng(0)
    labels = random.choice(3, 4000, p=shares)
    evidence = random.normal(0, 1, (4000, 3)) + 2 * np.eye(3)[labels]
    logits = (2 * evidence + power * np.log(shares)).astype(np.float32)
    assert fit_mix_power(logits, labels, shares, 1.0) == pytest.approx(power, abs=0.1)


def test_few_images_and_even_classes_leave_the_power_as_expected() -> None:
    logits, labels = drawn(0, 400, 4, 1.0)
    assert fit_mix_power(logits, labels, np.full(4, 0.25), 1.0) == pytest.approx(1.0)
    shares = np.array([0.7, 0.1, 0.1, 0.1])
    assert fit_mix_power(logits[:4], labels[:4], shares, 0.0) == pytest.approx(0.0, abs=0.3)


def test_a_few_right_answers_do_not_make_it_certain() -> None:
    logits = np.array([[2, 0], [0, 2], [3, 0]], np.float32)
    assert 0.5 < fit_temperature(logits, np.array([0, 1, 0])) <= 1
    assert fit_temperature(logits[:0], np.zeros(0, np.int64)) == 1
    assert fit_temperature(np.array([[np.nan, 0]], np.float32), np.array([0])) == 1


def test_bins_count_every_answer_once_the_surest_too() -> None:
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], np.float32)
    scored = ScoredAnswers(probabilities, np.array([0, 0, 0]))
    found = [(entry["count"], entry["accuracy"]) for entry in scored.reliability]
    assert found == [(1, 1.0), (2, 0.5)]
    assert scored.calibration_error == pytest.approx((0.5 + 2 * 0.5) / 3)
