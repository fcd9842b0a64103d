"""Like photographs lie in one group, the purest first."""

import numpy as np
from hypothesis import given, strategies as st

from opsin.labelling.groups import groups_of, usual_number
from tests.labelling.conftest import clouds


@given(count=st.integers(0, 60), number=st.integers(1, 80))
def test_each_photograph_is_in_one_group(count: int, number: int) -> None:
    points, _ = clouds(60)
    rows = np.arange(60)[::-1][:count]
    groups = groups_of(points, rows, number)
    assert sorted(row for group in groups for row in group.rows) == sorted(rows)
    assert len(groups) <= number
    assert all(0 <= group.unity <= 1 for group in groups)


def test_groups_are_pure() -> None:
    points, truth = clouds(300, spread=0.2)
    groups = groups_of(points, np.arange(300), 3)
    assert len(groups) == 3
    assert all(len(set(truth[group.rows])) == 1 for group in groups)
    assert [group.unity for group in groups] == sorted((g.unity for g in groups), reverse=True)
    assert 2 <= usual_number(10) <= usual_number(2_527) <= usual_number(100_000)
