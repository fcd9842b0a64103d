"""The threshold keeps its promise, and familiarity is what the file computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.evaluation.reject import (
    HIGHEST_RATE,
    choose_threshold,
    class_directions,
    familiarity,
)


@pytest.mark.parametrize("count", [19, 25, 60, 400])
def test_as_many_known_pictures_are_refused_as_promised(count: int) -> None:
    random = np.random.default_rng(count)
    refused, rate = [], 0.0
    for _ in range(2000):
        values = random.beta(8, 2, count + 200).astype(np.float32)
        chosen = choose_threshold(values[:count])
        assert chosen is not None
        threshold, rate = chosen
        refused.append(np.mean(values[count:] < threshold))
    assert rate <= HIGHEST_RATE
    assert np.mean(refused) == pytest.approx(rate, rel=0.1)


def test_too_few_pictures_promise_nothing() -> None:
    assert choose_threshold(np.ones(18, np.float32)) is None
    assert choose_threshold(np.zeros(0, np.float32)) is None


def test_equal_values_are_all_kept() -> None:
    assert choose_threshold(np.full(100, 0.5, np.float32)) == (0.5, 0.02 * 101 // 1 / 101)


@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_familiarity_is_a_cosine(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(30, 5)).astype(np.float32)
    labels = random.integers(0, 3, 30)
    directions = class_directions(embeddings, labels, 4)
    lengths = np.linalg.norm(directions, axis=1)
    assert lengths[np.unique(labels)] == pytest.approx(1, abs=1e-5)
    assert lengths[3] == 0
    values = familiarity(embeddings, directions)
    assert (np.abs(values) <= 1 + 1e-5).all()
    scaled = familiarity(np.float32(scale) * embeddings, directions)
    assert scaled == pytest.approx(values, abs=1e-4)
    own = int(labels[0])
    assert familiarity(directions[own : own + 1], directions) == pytest.approx(1, abs=1e-5)


def test_what_excites_nothing_is_unfamiliar() -> None:
    directions = class_directions(np.array([[1, 0], [0, 1]], np.float32), np.array([0, 1]), 2)
    assert familiarity(np.zeros((1, 2), np.float32), directions).tolist() == [0.0]
