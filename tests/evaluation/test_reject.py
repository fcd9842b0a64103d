"""The limit keeps its promise, and ood_score is what the file computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.evaluation.reject import HIGHEST_RATE, ClassPrototypes, choose_threshold


@pytest.mark.parametrize("count", [19, 25, 60, 400])
def test_as_many_known_images_are_refused_as_promised(count: int) -> None:
    random = np.random.default_rng(count)
    refused, rate = [], 0.0
    for _ in range(2000):
        values = random.beta(8, 2, count + 200).astype(np.float32)
        chosen = choose_threshold(values[:count])
        assert chosen is not None
        most, rate = chosen
        refused.append(np.mean(values[count:] > most))
    assert rate <= HIGHEST_RATE
    assert np.mean(refused) == pytest.approx(rate, rel=0.1)


def test_too_few_images_promise_nothing() -> None:
    assert choose_threshold(np.ones(18, np.float32)) is None
    assert choose_threshold(np.zeros(0, np.float32)) is None


def test_equal_values_are_all_kept() -> None:
    assert choose_threshold(np.full(100, 0.5, np.float32)) == (0.5, 0.02 * 101 // 1 / 101)


@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_ood_score_is_made_of_a_cosine_whatever_the_units(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(30, 5)).astype(np.float32)
    labels = random.integers(0, 3, 30)
    known = ClassPrototypes.of(embeddings, labels, 4)
    lengths = np.linalg.norm(known.directions, axis=1)
    assert lengths[np.unique(labels)] == pytest.approx(1, abs=1e-5)
    assert lengths[3] == 0
    values = known.ood_score(embeddings)
    assert (values > -1e-5).all() and (values < 2 + 1e-5).all()
    # A brighter embedding is as usual, and so is one in other units.
    assert known.ood_score(np.float32(scale) * embeddings) == pytest.approx(values, abs=1e-4)
    other = np.float32(scale) * embeddings
    assert ClassPrototypes.of(other, labels, 4).ood_score(other) == pytest.approx(values, abs=1e-3)
    own = int(labels[0])
    mean = known.directions[own : own + 1] / known.scales
    assert known.ood_score(mean) == pytest.approx(0, abs=1e-5)


def test_no_unit_drowns_the_others() -> None:
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(200, 2)).astype(np.float32)
    labels = (embeddings[:, 1] > 0).astype(np.int64)
    loud = embeddings * np.array([1, 5], np.float32)
    values = [ClassPrototypes.of(e, labels, 2).ood_score(e) for e in (embeddings, loud)]
    one, other = values
    assert np.corrcoef(one, other).min() > 0.99


def test_what_excites_nothing_is_unusual_and_what_never_varies_is_no_error() -> None:
    known = ClassPrototypes.of(np.array([[1, 0], [0, 1]], np.float32), np.array([0, 1]), 2)
    assert known.ood_score(np.zeros((1, 2), np.float32)).tolist() == [1.0]
    constant = np.ones((3, 2), np.float32)
    assert np.isfinite(
        ClassPrototypes.of(constant, np.array([0, 0, 1]), 2).ood_score(constant)
    ).all()
