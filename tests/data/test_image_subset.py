"""Images that remain of others are taken as from an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.data.image_subset import ImageSubset


@given(
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
    rows=st.one_of(st.integers(-3, 2), st.slices(4), st.lists(st.integers(-1, 0), max_size=5)),
)
def test_remaining_images_are_taken_as_from_an_array(
    count: int, seed: int, rows: int | slice | list[int]
) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (12, 4, 5, 3), np.uint8)
    kept = np.sort(random.permutation(12)[: max(3, count)])
    view, copy = ImageSubset(images, kept), images[kept]
    wanted: Any = np.array(rows, np.int64) if isinstance(rows, list) else rows
    assert np.array_equal(view[wanted], copy[wanted])
    if not isinstance(rows, int):
        assert np.array_equal(view[wanted, 1:, :, 0], copy[wanted, 1:, :, 0])
    assert np.array_equal(np.asarray(view), copy)
    assert (len(view), view.shape, view.nbytes) == (len(copy), copy.shape, copy.nbytes)
    with pytest.raises(IndexError):
        view[12]
