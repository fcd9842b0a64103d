"""Each image is answered once, by a model that has seen neither it nor its group."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from opsin.evaluation.intervals import widened, wilson
from opsin.evaluation.out_of_fold import MANY, folds_of, joined_folds, out_of_fold
from opsin.runtime.prediction import Answers


@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    together=st.integers(1, 8),
    mixed=st.booleans(),
    most=st.integers(2, 10),
)
def test_each_image_is_tested_once(sizes: list[int], together: int, mixed: bool, most: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    units = np.arange(len(labels)) // together + 1000 * labels * (not mixed)
    folds = folds_of(labels, units, 0, most)
    tested = [row for _, test in folds for row in test.tolist()]
    assert len(set(tested)) == len(tested)
    for train, test in folds:
        assert not set(units[train]) & set(units[test])
        assert set(labels[train]) == set(labels), "a class that no model of the fold knows"
    if folds and not mixed:
        independent = [len(set(units[labels == label])) for label in range(len(sizes))]
        assert sorted(tested) == np.flatnonzero(np.array(independent)[labels] > 1).tolist()
    if folds and together == 1:
        assert len(folds) == min([most, *(size for size in sizes if size > 1)])


def test_no_head_sees_the_group_of_what_it_judges_when_images_join() -> None:
    labels, units = np.array([0, 0, 0, 0, 0, 1]), np.array([0, 1, 2, 3, 4, 4])
    for train, test in joined_folds(np.array([0, 1, 0, 2, 1, -1]), labels, units, 0):
        assert not set(units[train]) & set(units[test])


@pytest.mark.parametrize("sizes", [[1, 1, 1], [1, 1]])
def test_classes_of_one_image_have_no_folds(sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    assert folds_of(labels, np.arange(len(labels)), 0) == []


def test_answers_stand_beside_their_images() -> None:
    labels = np.arange(40) % 4

    def answer(train: Any, test: Any) -> Answers:
        assert not set(train) & set(test)
        probabilities = np.repeat((test / 100)[:, None], 4, axis=1).astype(np.float32)
        return Answers(probabilities, (test * 2).astype(np.float32))

    folds = folds_of(labels, np.arange(40), 0)
    found = out_of_fold(folds, answer)
    assert found.rows.tolist() == list(range(40))
    np.testing.assert_allclose(found.answers.probabilities[:, 0], np.arange(40) / 100)
    assert found.answers.ood_score is not None
    assert found.answers.ood_score.tolist() == [2 * row for row in range(40)]
    for number, (_, test) in enumerate(folds):
        assert (found.fold[test] == number).all()


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "each", "numbers"), [(4, 15, 100), (3, 40, 400)])
def test_wider_intervals_cover_what_learnt_from_all(kinds: int, each: int, numbers: int) -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(kinds, numbers))
    centres *= (numbers / 8) ** 0.25 * 1.3 / np.linalg.norm(centres, axis=1, keepdims=True)
    labels, others = np.arange(kinds * each) % kinds, np.arange(3000) % kinds
    unseen = centres[others] + random.normal(size=(3000, numbers))

    def nearest_mean(points: Any, own: Any, asked: Any) -> Any:
        means = np.stack([points[own == kind].mean(axis=0) for kind in range(kinds)])
        return (asked @ means.T - np.square(means).sum(axis=1) / 2).argmax(axis=1)

    narrow: list[bool] = []
    wide: list[bool] = []
    for draw in range(300):
        points = centres[labels] + random.normal(size=(len(labels), numbers))
        right = 0
        for train, test in folds_of(labels, np.arange(len(labels)), draw, MANY):
            found = nearest_mean(points[train], labels[train], points[test])
            right += int((found == labels[test]).sum())
        truth = (nearest_mean(points, labels, unseen) == others).mean()
        ends = wilson(right, len(labels))
        for held, (low, high) in ((narrow, ends), (wide, widened(right / len(labels), ends))):
            held.append(bool(low <= truth <= high))
    assert np.mean(narrow) < 0.92
    assert np.mean(wide) >= 0.93
