"""IDX files, plain and gzip, whole and damaged."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources.arrays import read_idx


def idx(array: NDArray[np.uint8]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def write_pair(folder: Path, prefix: str, count: int, *, packed: bool) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, 5, 4), np.uint8)
    labels = (np.arange(count) % 3).astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        content = idx(array)
        path = folder / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_pairs_and_a_pair_by_name(tmp_path: Path, packed: bool) -> None:
    write_pair(tmp_path, "train", 9, packed=packed)
    write_pair(tmp_path, "t10k", 6, packed=packed)
    both = sources.find_all(DataRecipe.of(str(tmp_path))).open()
    assert len(both) == 15
    assert both.names[9] == "test/0"
    name = f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    one = sources.find_all(DataRecipe.of(str(tmp_path / name))).open()
    assert len(one) == 9
    assert np.array_equal(np.asarray(one.images), np.asarray(both.images)[:9])


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 9))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory,
                                  shape: list[int], seed: int) -> None:  # fmt: skip
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.mktemp("idx") / "a-idx3-ubyte"
    path.write_bytes(idx(array))
    assert np.array_equal(read_idx(path), array)


WHOLE = idx(np.zeros((4, 5, 4), np.uint8))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(WHOLE[:-1], "another number of values than the 80 stated", id="cut"),
        pytest.param(WHOLE + b"x", "another number of values", id="too long"),
        pytest.param(WHOLE[:9], "impossible size", id="cut header"),
        pytest.param(b"", "no IDX header", id="empty"),
        pytest.param(b"\0\0\x0d\x03" + WHOLE[4:], "no IDX header of bytes", id="floats"),
        pytest.param(bytes((0, 0, 8, 3)) + b"\xff" * 12, "expands to more", id="huge"),
        pytest.param(bytes((0, 0, 8, 0)) + b"x", "impossible size", id="no dimensions"),
        pytest.param(gzip.compress(WHOLE)[:-9], "idx3", id="cut gzip"),
        pytest.param(b"\x1f\x8b" + b"x" * 30, "idx3", id="damaged gzip"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=words):
        read_idx(path)


def test_labels_must_be_there_and_match(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 9, packed=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(8, np.uint8)))
    with pytest.raises(SourceError, match="one for each image"):
        sources.find_all(DataRecipe.of(str(tmp_path))).open()
    labels.unlink()
    with pytest.raises(SourceError, match="there is no train-labels-idx1-ubyte"):
        sources.find_all(DataRecipe.of(str(tmp_path))).open()


def test_other_labels_are_noticed(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 12, packed=False)
    images = str(tmp_path / "train-images-idx3-ubyte")
    before = sources.find_all(DataRecipe.of(images)).key
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx((np.arange(12) % 4).astype(np.uint8)))
    os.utime(labels, (1, 1))
    assert sources.find_all(DataRecipe.of(images)).key != before
