"""Few labels and the heap itself tell classes apart."""

import numpy as np
from hypothesis import given, strategies as st

from opsin.labelling.learner import HeapLearner, margins, nearest
from tests.labelling.conftest import clouds


@given(count=st.integers(1, 40), classes=st.integers(1, 4), seed=st.integers(0, 9))
def test_answers_are_probabilities_whatever_is_labelled(
    count: int, classes: int, seed: int
) -> None:
    points, _ = clouds(60)
    random = np.random.default_rng(seed)
    rows = random.permutation(60)[:count]
    labels = random.integers(0, classes, count)
    answers = HeapLearner(points).fit(rows, labels, classes).of(np.arange(60))
    assert answers.shape == (60, classes)
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert (answers >= 0).all()
    assert ((margins(answers) >= 0) & (margins(answers) <= 1)).all()


def test_the_heap_teaches_what_its_labels_leave_open() -> None:
    points, truth = clouds(400, spread=0.6)
    rows = np.arange(9)  # three labels a class
    learner = HeapLearner(points)
    others = np.arange(9, 400)
    taught = learner.fit(rows, truth[rows], 3).of(others)
    alone = learner.fit(rows, truth[rows], 3, without=others).of(others)  # nothing may teach
    right, right_alone = ((a.argmax(1) == truth[others]).mean() for a in (taught, alone))
    assert right > right_alone + 0.02
    assert right > 0.9


def test_more_labels_than_centres() -> None:
    points, truth = clouds(1_500)
    answers = (
        HeapLearner(points).fit(np.arange(1_200), truth[:1_200], 3).of(np.arange(1_200, 1_500))
    )
    assert (answers.argmax(axis=1) == truth[1_200:]).mean() > 0.97


def test_neighbours_of_very_many_are_near_and_others_though_most_are_all_but_equal() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(8_000, 32))
    points[:6_000] = points[0] + 1e-5 * points[:6_000]
    points = points[random.permutation(len(points))]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    places, values = nearest(points.astype(np.float32), 5)
    rows = np.arange(len(points))
    assert not (places == rows[:, None]).any()
    assert all(len(set(found)) == 5 for found in places.tolist())
    cosines = np.einsum("nd,nkd->nk", points, points[places])
    assert np.allclose(values, cosines, atol=1e-5)
    assert (values.min(axis=1) > 0.999).sum() >= 6_000
