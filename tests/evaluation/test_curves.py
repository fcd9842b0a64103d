"""Curves and areas are scikit-learn's, and small enough to travel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from opsin.evaluation.metrics import _areas, measure_curves


@given(seed=st.integers(0, 99), count=st.integers(4, 60), coarse=st.booleans())
def test_weighted_areas_are_scikit_learns(seed: int, count: int, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    scores = random.random(count).astype(np.float32)
    scores = scores.round(1) if coarse else scores  # with ties
    own = random.random(count) < 0.4
    own[:2] = [True, False]
    weights = random.integers(0, 4, (3, count))
    weights[:, :2] = 1
    roc, average = _areas(weights, scores, own)
    for place in range(3):
        options = {"sample_weight": weights[place]}
        assert roc[place] == pytest.approx(roc_auc_score(own, scores, **options))
        assert average[place] == pytest.approx(average_precision_score(own, scores, **options))


def test_a_resample_without_a_class_has_no_area() -> None:
    own = np.array([False, True, False])
    areas = _areas(np.array([[1, 0, 2]]), np.array([0.5, 0.1, 0.9], np.float32), own)
    assert np.isnan(areas).all()


def test_what_is_drawn_has_the_area_that_is_said() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 5000)
    scores = random.normal(size=(5000, 3))
    scores[np.arange(5000), labels] += 1.5
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    said, _ = measure_curves(probabilities.astype(np.float32), labels, ["a", "b", "c"])
    for entry in said.classes:
        assert entry.roc is not None
        assert entry.precision_recall is not None
        across, up = entry.roc
        assert len(across) <= 60
        assert auc(across, up) == pytest.approx(entry.auroc, abs=2e-3)
        recall, precision = entry.precision_recall
        assert auc(recall, precision) == pytest.approx(entry.average_precision, abs=5e-3)


def test_a_class_without_images_has_no_area_and_many_classes_no_curves() -> None:
    probabilities = np.full((4, 30), 1 / 30, np.float32)
    said, _ = measure_curves(probabilities, np.array([0, 0, 1, 1]), [str(k) for k in range(30)])
    without = {"name": "2", "auroc": None, "average_precision": None}
    assert said.classes[2].to_json() == without
    assert "roc" not in said.classes[0].to_json()
    assert said.macro_auroc == 0.5
    alone, intervals = measure_curves(
        np.ones((3, 2), np.float32), np.zeros(3, np.int64), ["a", "b"]
    )
    assert alone.macro_auroc is None
    assert intervals == {}
