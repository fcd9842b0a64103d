"""A layer's figures are NumPy's, and no unit is lost."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as nps
from numpy.typing import NDArray

from opsin.core.stored_json import plain_data
from opsin.inspection.layers import view_of
from tests.made_classifier import made_layer

shapes = st.one_of(
    st.tuples(st.integers(1, 7)), st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 5))
)
finite = st.floats(-1e6, 1e6, width=32)


@given(nps.arrays(np.float32, shapes, elements=finite))
def test_the_figures_are_numpys_and_every_unit_has_its_place(values: NDArray[np.float32]) -> None:
    view = view_of(made_layer("l", "ReLU", values.shape), values)
    exact = values.astype(np.float64)
    assert view.values is values
    assert (view.minimum, view.maximum) == (exact.min(), exact.max())
    assert view.mean == pytest.approx(exact.mean(), abs=1e-9, rel=1e-9)
    assert view.deviation == pytest.approx(exact.std(), abs=1e-9, rel=1e-9)
    assert view.sparsity == (values == 0).mean()
    assert view.counts.sum() == values.size
    assert view.edges[0] <= exact.min()
    assert view.edges[-1] >= exact.max()
    assert sorted(view.order) == list(range(len(values)))
    strengths = np.abs(exact).reshape(len(values), -1).mean(axis=1)
    assert np.allclose(view.strengths, strengths)
    assert (np.diff(view.strengths[view.order]) <= 0).all()


def test_values_that_are_no_numbers_are_counted_and_left_out() -> None:
    values = np.array([np.nan, np.inf, 2.0, 4.0], np.float32)
    view = view_of(made_layer("l", "Dense", (4,)), values)
    assert (view.not_finite, view.mean, view.maximum) == (2, 3.0, 4.0)
    assert view.order.tolist() == [3, 2, 0, 1]
    nothing = view_of(made_layer("l", "Dense", (2,)), np.full(2, np.nan, np.float32))
    assert nothing.not_finite == 2
    json.dumps([plain_data(view), plain_data(nothing)], allow_nan=False)
