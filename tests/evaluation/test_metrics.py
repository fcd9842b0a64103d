"""Figures that scikit-learn computes, intervals that cover, and pairs in their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.evaluation.metrics import interval, measure
from opsin.evaluation.mistakes import confident_mistakes, typical_rows

CLASSES = ("a", "b", "c")


def test_a_small_example_by_hand() -> None:
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2]], np.float32
    )
    figures = measure(probabilities, np.array([0, 1, 1, 1]), CLASSES)
    assert figures["accuracy"] == 0.75
    assert figures["confusion"] == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert figures["confused"] == [{"actual": "b", "predicted": "a", "count": 1, "of": 3}]
    assert figures["classes"][0] == {
        "name": "a", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "count": 1,
    }  # fmt: skip
    assert figures["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["log_loss"] == pytest.approx(-np.log([0.8, 0.8, 0.3, 0.7]).mean(), rel=1e-5)
    assert figures["top5_accuracy"] is None


@given(seed=st.integers(0, 99), count=st.integers(1, 50), classes=st.integers(2, 8))
def test_figures_hang_together(seed: int, count: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), count).astype(np.float32)
    labels = random.integers(0, classes, count)
    figures = measure(probabilities, labels, [str(k) for k in range(classes)])
    confusion = np.array(figures["confusion"])
    assert confusion.sum() == count
    assert figures["accuracy"] == pytest.approx(np.trace(confusion) / count)
    assert figures["low"] <= figures["accuracy"] <= figures["high"]
    wrong = sum(pair["count"] for pair in figures["confused"])
    assert wrong <= count - np.trace(confusion)
    assert len(confident_mistakes(probabilities, labels, 100)) == count - np.trace(confusion)


@given(count=st.integers(1, 5000), share=st.floats(0, 1))
def test_the_interval_holds_the_share_and_stays_within_0_and_1(count: int, share: float) -> None:
    right = round(share * count)
    low, high = interval(right, count)
    assert 0 <= low <= right / count <= high <= 1


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = [low <= 0.9 <= high for low, high in
            (interval(int(n), 200) for n in random.binomial(200, 0.9, 4000))]  # fmt: skip
    assert 0.93 <= np.mean(hits) <= 0.97


def test_the_interval_is_wilsons() -> None:
    assert interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_mistakes_come_the_most_confident_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], np.float32)
    labels = np.array([1, 1, 1, 0])
    assert confident_mistakes(probabilities, labels).tolist() == [1, 3, 0]
    assert confident_mistakes(probabilities, labels, 1).tolist() == [1]


@given(total=st.integers(1, 10_000), count=st.integers(1, 30))
def test_typical_rows_are_spread_from_end_to_end(total: int, count: int) -> None:
    rows = typical_rows(total, count)
    assert len(rows) == min(total, count) == len(set(rows.tolist()))
    assert rows[0] == 0
    assert rows.max() < total
