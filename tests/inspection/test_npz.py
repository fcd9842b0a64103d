"""NumPy reads what was written in turns, and a file is whole or not there."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.core.errors import StorageError
from opsin.inspection.npz import ArrayPlan, NpzWriter, open_npz

FLOATS = np.dtype(np.float32)


@given(data=st.data())
def test_numpy_reads_what_was_written_in_turns(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = data.draw(st.integers(0, 9))
    arrays: dict[str, NDArray[Any]] = {
        "stage1.conv": random.standard_normal((rows, 2, 3), np.float32),
        "embedding": random.standard_normal((rows, 5), np.float32),
        "ood_score": random.standard_normal(rows, np.float32),
        "labels": random.integers(0, 9, rows),
        "names": np.array(["漢字", "a/b.png", "", "مرحبا", "\U0001f98b"] * 2)[:rows],
        "層": np.zeros((rows, 0), np.float32),
    }
    file = tmp_path_factory.mktemp("npz") / "a.npz"
    plans = {name: ArrayPlan(array.shape, array.dtype) for name, array in arrays.items()}
    with open_npz(file, plans) as writer:
        place = 0
        while place < rows:
            step = data.draw(st.integers(1, rows - place))
            for name in data.draw(st.permutations(list(arrays))):
                writer.write(name, arrays[name][place : place + step])
            place += step
        said = writer.nbytes
    assert file.stat().st_size == said
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
    with np.load(file, allow_pickle=False) as found:
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            assert np.array_equal(found[name], array)
            assert found[name].dtype == array.dtype


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        with open_npz(tmp_path / name, {"x": ArrayPlan((2,), FLOATS)}) as writer:
            writer.write("x", np.ones(2))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_array_behind_the_first_five_gigabytes_is_found(tmp_path: Path) -> None:
    file = tmp_path / "large.npz"
    with file.open("wb") as stream:
        writer = NpzWriter(
            stream, {"large": ArrayPlan((5 << 28,), FLOATS), "x": ArrayPlan((3,), FLOATS)}
        )
        writer.write("x", np.arange(3))
        # Left as a hole in the file: writing five gigabytes would take too long.
        writer._members["large"].written = writer._members["large"].size
        writer.finish()
    assert file.stat().st_size > 5 << 30
    with np.load(file) as found:
        assert found["x"].tolist() == [0, 1, 2]
    with zipfile.ZipFile(file) as archive:
        assert archive.getinfo("large.npy").file_size > 5 << 30


@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_not_as_planned_is_refused_and_leaves_nothing(tmp_path: Path, rows: int) -> None:
    file = tmp_path / "a.npz"
    with (
        pytest.raises(ValueError, match=r"does not fit|of .* bytes"),
        open_npz(file, {"x": ArrayPlan((2, 3), FLOATS)}) as writer,
    ):
        writer.write("x", np.zeros((rows, 3)))
    assert list(tmp_path.iterdir()) == []


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="does not fit"),
        open_npz(tmp_path / "a.npz", {"x": ArrayPlan((2, 3), FLOATS)}) as writer,
    ):
        writer.write("x", np.zeros((1, 6)))


def test_after_ctrl_c_the_old_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(b"old")

    def stopped() -> None:
        with open_npz(file, {"x": ArrayPlan((2,), FLOATS)}) as writer:
            writer.write("x", np.zeros(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_too_small_a_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"expected 4,000\.0 TB of free disk space"),
        open_npz(tmp_path / "a.npz", {"x": ArrayPlan((10**15,), FLOATS)}),
    ):
        pytest.fail("the block began")
    assert list(tmp_path.iterdir()) == []
