"""Kernel ridge regression: the machine, its solution, and what a weight does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge as Peer

from opsin.classical.kernel_ridge import KernelRidge


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1_000), st.sampled_from((0.3, 3.0, 100.0)), st.sampled_from((0.05, 0.5, 2.0)))
def test_scores_are_those_of_least_squares(seed: int, c: float, gamma: float) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(size=(40, 5)).astype(np.float32)
    labels = np.concatenate([[0, 1, 2], random.integers(0, 3, 37)])
    own = KernelRidge.fit(points, labels, c=c, gamma=gamma, weighted=False)
    targets = 10 * np.eye(3)[labels] - 10 / 3
    peer = Peer(alpha=1 / c, kernel="rbf", gamma=gamma).fit(points.astype(np.float64), targets)
    asked = random.normal(size=(20, 5)).astype(np.float32)
    expected = peer.predict(asked.astype(np.float64)) + 10 / 3
    np.testing.assert_allclose(own.decision_function(asked), expected, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_rare_classes_count_more_where_they_are_weighted(classes: int) -> None:
    random = np.random.default_rng(3)
    counts = [200, *[8] * (classes - 1)]
    labels = np.repeat(np.arange(classes), counts)
    centres = random.normal(0, 1, (classes, 6))
    points = (centres[labels] + random.normal(0, 1.5, (len(labels), 6))).astype(np.float32)
    asked = np.repeat(np.arange(1, classes), 200)
    fresh = (centres[asked] + random.normal(0, 1.5, (len(asked), 6))).astype(np.float32)
    right = [
        (KernelRidge.fit(points, labels, c=1.0, gamma=0.1, weighted=weighted).predict(fresh)
         == asked).mean() for weighted in (False, True)
    ]  # fmt: skip
    assert right[1] > right[0]
