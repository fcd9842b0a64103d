"""Curves and areas are scikit-learn's, and small enough to travel."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc

from opsin.evaluation.metrics import measure_curves


def test_what_is_drawn_has_the_area_that_is_said() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 5000)
    scores = random.normal(size=(5000, 3))
    scores[np.arange(5000), labels] += 1.5
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    said = measure_curves(probabilities.astype(np.float32), labels, ["a", "b", "c"])
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
    said = measure_curves(probabilities, np.array([0, 0, 1, 1]), [str(k) for k in range(30)])
    without = {"name": "2", "auroc": None, "average_precision": None}
    assert said.classes[2].model_dump(mode="json", exclude_unset=True) == without
    assert "roc" not in said.classes[0].model_dump(mode="json", exclude_unset=True)
    assert said.macro_auroc == 0.5
    alone = measure_curves(np.ones((3, 2), np.float32), np.zeros(3, np.int64), ["a", "b"])
    assert alone.macro_auroc is None
