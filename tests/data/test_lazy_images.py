"""Images that are read when they are asked for are taken as from an array."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from opsin.core.errors import ImageError
from opsin.core.metadata import Preparation
from opsin.data.lazy_images import decode_lazily, subset
from tests.conftest import write_shapes

LIKE = Preparation(height=20, width=24, channels=3, resize="fit")


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    files = sorted((write_shapes(tmp_path / "gone") / "disc").iterdir())
    lazy = decode_lazily(files, [file.name for file in files], LIKE)
    files[3].unlink()
    assert lazy[4].any()
    with pytest.raises(ImageError, match=files[3].name):
        lazy[:]


@given(
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
    rows=st.one_of(st.integers(-3, 2), st.slices(4), st.lists(st.integers(-1, 0), max_size=5)),
)
def test_a_subset_is_as_an_array(count: int, seed: int, rows: int | slice | list[int]) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (12, 4, 5, 3), np.uint8)
    kept = np.sort(random.permutation(12)[: max(3, count)])
    view, copy = subset(images, kept), images[kept]
    wanted: Any = np.array(rows, np.int64) if isinstance(rows, list) else rows
    assert np.array_equal(view[wanted], copy[wanted])
    if not isinstance(rows, int):
        assert np.array_equal(view[wanted, 1:, :, 0], copy[wanted, 1:, :, 0])
    assert np.array_equal(np.asarray(view), copy)
    assert (len(view), view.shape, view.nbytes) == (len(copy), copy.shape, copy.nbytes)
    with pytest.raises(IndexError):
        view[12]
