"""Images become rows of numbers that a file can repeat."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from opsin.classical.fit import Pooling, drawn


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(4, 40))
def test_means_of_squares_are_right(height: int, width: int, channels: int, side: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, channels), np.uint8)
    pooling = Pooling.to_fit((height, width, channels), side)
    assert max(pooling.shape[1:]) <= side
    rows = pooling.rows_of(images).reshape(2, *pooling.shape)
    factor = pooling.factor
    for row in range(pooling.shape[1]):
        for column in range(pooling.shape[2]):
            square = images[
                :, row * factor : (row + 1) * factor, column * factor : (column + 1) * factor
            ]
            np.testing.assert_allclose(
                rows[:, :, row, column], square.mean(axis=(1, 2)) / 255, rtol=1e-6
            )


def test_reading_in_blocks_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsin.classical.fit._BLOCK", 3 * 16)
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1), np.uint8)
    rows = np.array([9, 0, 4, 5, 1, 2, 3])
    pooling, progress = Pooling.to_fit((4, 4, 1), 32), list[int]()
    assert np.array_equal(
        pooling.read(images, rows, progress.append), pooling.rows_of(images[rows])
    )
    assert progress == [3, 6, 7]


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=200),
    st.integers(2, 200),
    st.integers(0, 2**31 - 1),
)
def test_drawn_rows_keep_every_class_at_its_share(kinds: list[int], most: int, seed: int) -> None:
    labels = np.array(kinds)
    rows = np.arange(len(labels)) + 1000
    chosen = drawn(rows, labels, most, seed)
    assert set(chosen.tolist()) <= set(rows.tolist())
    assert len(set(chosen.tolist())) == len(chosen)
    assert np.array_equal(chosen, np.sort(chosen))
    assert set(labels[chosen - 1000]) == set(kinds)
    assert np.array_equal(chosen, drawn(rows, labels, most, seed))
    for label in set(kinds):
        count, kept = (labels == label).sum(), (labels[chosen - 1000] == label).sum()
        share = min(1.0, most / len(labels))
        assert abs(kept - share * count) <= 1
