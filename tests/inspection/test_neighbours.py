"""The nearest rows are the nearest, whatever batches they come in."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from opsin.inspection.neighbours import directions, most_alike


@given(
    count=st.integers(0, 40),
    size=st.integers(1, 8),
    batch=st.integers(1, 41),
    wanted=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_batches_do_not_matter(count: int, size: int, batch: int, wanted: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    # Few values, so that many rows are equally near.
    rows = directions(random.integers(-1, 2, (count, size)).astype(np.float32), None)
    one = directions(random.normal(size=(1, size)).astype(np.float32), None)[0]
    parts = [rows[i : i + batch] for i in range(0, count, batch)]
    places, cosines = most_alike(parts, one, wanted)
    expected = (rows @ one).astype(np.float32)
    assert len(places) == min(wanted, count)
    np.testing.assert_allclose(cosines, np.sort(expected)[::-1][:wanted], atol=1e-6)
    np.testing.assert_allclose(expected[places], cosines, atol=1e-6)
    assert len(set(places.tolist())) == len(places)


def test_of_equal_ones_the_earlier_comes_first() -> None:
    same = np.ones((6, 3), np.float32)
    assert most_alike([same[:4], same[4:]], same[0], 3)[0].tolist() == [0, 1, 2]


def test_only_a_batch_is_held() -> None:
    def many() -> object:
        for _ in range(1000):
            yield np.ones((100, 4), np.float16)

    places, cosines = most_alike(many(), np.ones(4, np.float32), 2)  # type: ignore[arg-type]
    assert places.tolist() == [0, 1] and cosines.tolist() == [4, 4]


@given(seed=st.integers(0, 99), strength=st.floats(0.01, 100))
def test_neither_the_strength_of_a_row_nor_the_unit_of_a_column_counts(
    seed: int, strength: float
) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(5, 4)).astype(np.float32)
    units = random.uniform(0.1, 10, 4).astype(np.float32)
    scales = np.asarray(1 / units, np.float32)
    found = directions(rows, scales)
    np.testing.assert_allclose(directions(rows * np.float32(strength), scales), found, atol=1e-5)
    np.testing.assert_allclose(directions(rows * scales, None), found, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_rows_that_are_no_numbers_or_nothing_are_like_none() -> None:
    rows = np.array([[np.nan, np.inf], [0, 0]], np.float32)
    assert directions(rows, None).tolist() == [[0, 0], [0, 0]]
