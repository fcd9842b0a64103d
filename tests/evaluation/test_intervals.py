"""Intervals hold the truth about as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.evaluation.curves import measure_curves
from opsin.evaluation.intervals import of_counts, of_mean, wilson


@given(count=st.integers(1, 5000), share=st.floats(0, 1))
def test_a_share_lies_in_its_interval_within_0_and_1(count: int, share: float) -> None:
    right = round(share * count)
    low, high = wilson(right, count)
    assert 0 <= low <= right / count <= high <= 1


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_shares_are_covered() -> None:
    random = np.random.default_rng(0)
    ends = [wilson(int(n), 200) for n in random.binomial(200, 0.9, 4000)]
    assert 0.93 <= np.mean([low <= 0.9 <= high for low, high in ends]) <= 0.97


def test_means_are_covered() -> None:
    random = np.random.default_rng(1)
    # As log losses are: most small, some large. Their mean is 1.
    ends = [of_mean(random.gamma(0.5, 2.0, 500)) for _ in range(600)]
    assert 0.93 <= np.mean([low <= 1 <= high for low, high in ends]) <= 0.97


def test_too_many_values_to_resample_have_the_interval_of_a_normal_mean() -> None:
    values = np.random.default_rng(2).normal(5, 2, 1_100_000)
    low, high = of_mean(values)
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * 2 / 1_100_000**0.5, rel=0.01)


def macro_f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    found = confusion.diagonal(axis1=-2, axis2=-1)
    f1 = 2 * found / (confusion.sum(axis=-1) + confusion.sum(axis=-2))
    return np.asarray(f1.mean(axis=-1, keepdims=True))


@pytest.mark.slow
def test_figures_of_a_confusion_matrix_are_covered() -> None:
    truth = np.array([[0.30, 0.02, 0.03], [0.05, 0.25, 0.05], [0.01, 0.04, 0.25]])
    expected = macro_f1(truth)[0]
    random = np.random.default_rng(3)
    hits = []
    for _ in range(1500):
        low, high = of_counts(random.multinomial(500, truth.ravel()).reshape(3, 3), macro_f1)
        hits.append(low[0] <= expected <= high[0])
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.slow
def test_areas_under_curves_are_covered() -> None:
    random = np.random.default_rng(4)

    def drawn(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        labels = random.integers(0, 2, count)
        own = 1 / (1 + np.exp(-random.normal(1.5 * labels - 0.75, 1.0)))
        return np.stack([1 - own, own], axis=1).astype(np.float32), labels

    truth, _ = measure_curves(*drawn(400_000), ["a", "b"])
    hits = []
    for _ in range(300):
        _, ends = measure_curves(*drawn(300), ["a", "b"])
        hits.append([
            ends[name][0] <= getattr(truth, name) <= ends[name][1]
            for name in ("macro_auroc", "macro_average_precision")
        ])  # fmt: skip
    assert np.all(np.abs(np.mean(hits, axis=0) - 0.95) <= 0.025)
