"""Heads answer as scikit-learn's models; class means as distances from them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.kernel_ridge import KernelRidge as Peer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from opsin.classical.heads import KernelRidge, LinearClassifier


def clouds(seed: int, classes: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return points about the means of classes, of which the first is the most common."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, 90) % 3])
    points = random.normal(size=(classes, 9))[labels] + random.normal(size=(len(labels), 9))
    return points.astype(np.float32), labels


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1_000), st.sampled_from((3, 5)), st.sampled_from((0.01, 1.0, 100.0)))
def test_logistic_regression_answers_as_scikit_learns(seed: int, classes: int, c: float) -> None:
    points, labels = clouds(seed, classes)
    peer = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(points.astype(np.float64), labels)
    own = LinearClassifier.logistic(points, labels, c=c)
    found = softmax(own.decision_function(points), axis=1)
    np.testing.assert_allclose(found, peer.predict_proba(points), atol=0.02)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_nearest_mean_is_the_answer(classes: int) -> None:
    points, labels = clouds(1, classes)
    answers = LinearClassifier.nearest_mean(points, labels).decision_function(points).argmax(axis=1)
    np.testing.assert_array_equal(answers, NearestCentroid().fit(points, labels).predict(points))


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
