"""What a layer's units like best does not depend on how the pictures come."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.inspection.units import UnitCounter, UnitRecord


def record_of(
    maps: NDArray[np.float32],
    labels: NDArray[np.int64],
    sizes: list[int],
    *,
    keep: int = 4,
    rows: NDArray[np.int64] | None = None,
) -> UnitRecord:
    rows = np.arange(len(maps)) if rows is None else rows
    counter = UnitCounter(maps.shape[1], 3, keep=keep)
    start = 0
    for size in [*sizes, len(maps)]:
        some = rows[start : start + size]
        if len(some):
            counter.add(maps[some], some, labels[some])
        start += size
    return counter.record()


def drawn(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return maps with few different values, so that most are equal to another."""
    drawing = np.random.default_rng(seed)
    maps = drawing.integers(-2, 3, (count, 5, 2, 3)).astype(np.float32)
    return maps, drawing.integers(0, 3, count)


@given(
    st.integers(0, 10_000),
    st.integers(1, 40),
    st.lists(st.integers(1, 20), max_size=8),
    st.integers(1, 50),
    st.randoms(use_true_random=False),
)
def test_neither_batches_nor_order_make_a_difference(
    seed: int, count: int, sizes: list[int], keep: int, chance: random.Random
) -> None:
    maps, labels = drawn(seed, count)
    rows = np.array(chance.sample(range(count), count))
    whole = record_of(maps, labels, [], keep=keep)
    parts = record_of(maps, labels, sizes, keep=keep, rows=rows)
    for name in ("rows", "values", "places", "mix", "counts"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name
    for name in ("mean", "deviation"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), atol=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_it_says_what_sorting_everything_says(seed: int, count: int) -> None:
    maps, labels = drawn(seed, count)
    record = record_of(maps, labels, [7, 7])
    flat = maps.reshape(count, 5, -1)
    for unit in range(5):
        order = np.lexsort((np.arange(count), -flat[:, unit].max(axis=1)))[:4]
        assert record.rows[unit].tolist() == order.tolist()
        assert record.values[unit].tolist() == flat[order, unit].max(axis=1).tolist()
        assert record.places[unit].tolist() == flat[order, unit].argmax(axis=1).tolist()
        assert record.mix[unit].tolist() == np.bincount(labels[order], minlength=3).tolist()
    for label in range(3):
        own = flat[labels == label]
        if len(own):
            np.testing.assert_allclose(record.mean[:, label], own.mean(axis=(0, 2)), atol=1e-6)
        else:
            assert np.isnan(record.mean[:, label]).all()
    np.testing.assert_allclose(record.deviation, flat.mean(axis=2).std(axis=0), atol=1e-6)


def test_selectivity_is_the_lift_in_deviations() -> None:
    labels = np.array([0, 0, 1, 1])
    maps = np.zeros((4, 3), np.float32)
    maps[labels == 1, 0] = 2  # fires for the second class alone
    maps[:, 1] = 0.1  # never changes
    maps[:, 2] = [0, 2, 0, 2]  # has nothing to do with the classes
    record = record_of(maps, labels, [])
    found = record.selectivity()
    np.testing.assert_allclose(found[0], [-2, 2, 0])
    assert found[1].tolist() == [0, 0, 0]
    np.testing.assert_allclose(found[2], [0, 0, 0], atol=1e-12)
    assert record.steady().tolist() == [False, True, False]


def test_what_is_no_number_is_never_best() -> None:
    maps = np.array([[np.nan], [1.0], [np.nan], [-3.0]], np.float32)
    record = record_of(maps, np.zeros(4, np.int64), [1, 1, 1])
    assert record.rows.tolist() == [[1, 3, 0, 2]]


def test_four_thousand_units_are_kept_in_bounded_memory() -> None:
    drawing = np.random.default_rng(0)
    counter = UnitCounter(4096, 10)
    size = 64
    for start in range(0, 8 * size, size):
        rows = np.arange(start, start + size)
        counter.add(drawing.standard_normal((size, 4096), np.float32), rows, rows % 10)
        # What waits is thinned out before it outgrows what is kept by more than a batch.
        assert counter.waiting <= 4096 * 100
    assert counter.record().rows.shape == (4096, 100)
