"""Each image is answered once, by a model that has seen neither it nor its group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.evaluation.out_of_fold import folds_of, out_of_fold
from opsin.runtime.classifier import Answers


@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    together=st.integers(1, 4),
    most=st.integers(2, 10),
    seed=st.integers(0, 5),
)
def test_each_image_is_tested_once_and_no_group_straddles(
    sizes: list[int], together: int, most: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    units = np.arange(len(labels)) // together
    folds = folds_of(labels, units, seed, most)
    tested = [row for _, test in folds for row in test.tolist()]
    assert len(set(tested)) == len(tested)
    for train, test in folds:
        assert not set(units[train]) & set(units[test])
        assert set(labels[train]) == set(labels), "a class that no model of the fold knows"
    if together == 1 and folds:
        several = np.flatnonzero(np.array(sizes)[labels] > 1)
        assert sorted(tested) == several.tolist()
        assert len(folds) == min([most, *(size for size in sizes if size > 1)])


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
