"""Kernel ridge regression: the machine, its solution, and what a weight does."""

from __future__ import annotations

import numpy as np
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
    own = KernelRidge.fit(points, labels, c=c, gamma=gamma)
    targets = 10 * np.eye(3)[labels] - 10 / 3
    peer = Peer(alpha=1 / c, kernel="rbf", gamma=gamma).fit(points.astype(np.float64), targets)
    asked = random.normal(size=(20, 5)).astype(np.float32)
    expected = peer.predict(asked.astype(np.float64)) + 10 / 3
    np.testing.assert_allclose(own.decision_function(asked), expected, atol=1e-6)


def test_single_precision_answers_nearly_the_same() -> None:
    random = np.random.default_rng(3)
    labels = np.arange(300) % 3
    points = (random.normal(0, 1, (3, 6))[labels] + random.normal(0, 1, (300, 6))).astype(
        np.float32
    )
    exact, quick = (
        KernelRidge.fit(points, labels, c=100.0, gamma=0.1, precision=precision)
        for precision in (np.float64, np.float32)
    )
    found = quick.decision_function(points)
    assert quick.coefficients.dtype == np.float32
    np.testing.assert_allclose(found, exact.decision_function(points), atol=1e-2)
