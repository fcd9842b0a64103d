"""The running figure comes from photographs that did not teach, and says when it cannot tell."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from opsin.labelling.estimate import FEWEST, estimate_of, judge
from opsin.labelling.learner import HeapLearner
from tests.labelling.conftest import clouds


def test_a_label_never_judges_itself() -> None:
    points, truth = clouds(200, spread=0.3)
    random = np.random.default_rng(3)
    wrong = random.integers(0, 3, 60)  # labels that mean nothing
    rows = random.permutation(200)[:60]
    right, _ = judge(HeapLearner(points), rows, wrong, np.ones(60, bool), 3)
    assert 0.1 < right.mean() < 0.6  # a third by chance; 1 if each were judged by itself
    right, _ = judge(HeapLearner(points), rows, truth[rows], np.ones(60, bool), 3)
    assert right.mean() > 0.95


@given(st.lists(st.booleans(), max_size=200))
def test_the_figure_lies_in_its_interval_and_few_are_none(right: list[bool]) -> None:
    now = estimate_of(np.array(right, bool), 200)
    assert (now.accuracy is None) == (now.interval is None) == (len(right) < FEWEST)
    if now.accuracy is not None and now.interval is not None:
        low, high = now.interval
        assert 0 <= low <= now.accuracy <= high <= 1


@pytest.mark.parametrize(("right", "labels"), [(40, 60), (45, 200), (25, 100)])
def test_what_more_labels_bring_is_less_than_what_is_wrong(right: int, labels: int) -> None:
    now, later = (estimate_of(np.arange(50) < right, count) for count in (labels, 4 * labels))
    assert now.accuracy is not None
    assert now.gain is not None
    assert now.gain_interval is not None
    assert 0.02 <= now.gain < 1 - now.accuracy
    assert now.gain_interval[0] < now.gain < now.gain_interval[1]
    assert now.more is not None
    assert later.more is None or later.more > now.more


def test_nothing_is_promised_where_nothing_is_wrong() -> None:
    assert estimate_of(np.ones(400, bool), 400).more is None
