"""The running figure comes from photographs that did not teach, and says when it cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.labelling.estimate import FEWEST, RunningFigure, figure_of, judge, promise_of
from opsin.labelling.learner import HeapLearner
from tests.labelling.conftest import clouds


def test_a_label_never_judges_itself() -> None:
    points, truth = clouds(200, spread=0.3)
    random = np.random.default_rng(3)
    wrong = random.integers(0, 3, 60)  # labels that mean nothing
    rows = random.permutation(200)[:60]
    right = judge(HeapLearner(points), rows, wrong, np.ones(60, bool), 3)
    assert 0.1 < right.mean() < 0.6  # a third by chance; 1 if each were judged by itself
    right = judge(HeapLearner(points), rows, truth[rows], np.ones(60, bool), 3)
    assert right.mean() > 0.95


@given(st.lists(st.booleans(), max_size=200))
def test_the_figure_lies_in_its_interval_and_few_are_none(right: list[bool]) -> None:
    figure = figure_of(np.array(right, bool))
    assert (figure is None) == (len(right) < FEWEST)
    if figure is not None:
        low, high = figure.interval
        assert 0 <= low <= figure.value <= high <= 1


@pytest.mark.parametrize(("right", "labels"), [(40, 60), (45, 200), (25, 100)])
def test_what_more_labels_bring_is_less_than_what_is_wrong(right: int, labels: int) -> None:
    figure = RunningFigure(right, 50, (0.0, 1.0))
    promise = promise_of(figure, labels)
    assert promise is not None
    assert 0.02 <= promise.gain < 1 - figure.value
    assert promise.interval[0] < promise.gain < promise.interval[1]
    later = promise_of(figure, 4 * labels)
    assert later is None or later.labels > promise.labels


def test_nothing_is_promised_where_nothing_is_wrong() -> None:
    assert promise_of(RunningFigure(400, 400, (0.99, 1.0)), 400) is None
