"""Arrays, .npz files and IDX files: checked before they are used."""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.sources.arrays import from_arrays, open_npz, read_idx
from opsin.data.split import TEST, TRAIN
from tests.data.sources.conftest import opened

IMAGES = np.zeros((6, 8, 8), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_the_names_of_keras_will_do(tmp_path: Path) -> None:
    test: dict[str, Any] = {"x_test": IMAGES[:3], "y_test": LABELS[:3]}
    np.savez(tmp_path / "k.npz", x_train=IMAGES, y_train=LABELS[:, None], **test)
    contents = open_npz(tmp_path / "k.npz")
    assert contents.source_parts.tolist() == [TRAIN] * 6 + [TEST] * 3
    assert isinstance(contents.images, np.ndarray)
    assert contents.images.shape == (9, 8, 8, 1)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "words"),
    [
        (IMAGES / 255, LABELS, None, r"\(255.0 \* images\).round"),
        (IMAGES - 0.5, LABELS, None, "from -0.5 to -0.5"),
        (IMAGES[:, :, :, None, None], LABELS, None, "uint8"),
        ([IMAGES[0], IMAGES[0, :4]], LABELS[:2], None, "np.stack"), (None, LABELS, None, "uint8"),
        (IMAGES, LABELS[:4], None, "one for each image"),
        (IMAGES, LABELS - 1, None, "whole numbers from 0"),
        (IMAGES, np.array(list("catdog")), None, "whole numbers"),
        (IMAGES, LABELS + 10**10, None, "at most 99,999"), (IMAGES[:, :0], LABELS, None, "uint8"),
        (IMAGES, LABELS, ["a", "b"], "3 different ones"),
        (IMAGES, LABELS, ["a", "b", "b"], "3 different ones"),
        (IMAGES, LABELS, ["a", "\u00e9", "e\u0301"], "3 different ones"),
        (IMAGES[:0], LABELS[:0], None, "one for each image"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_explained(images: Any, labels: Any, classes: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        from_arrays(images, labels, classes)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(SourceError, match=r"set\.npz"):
        open_npz(tmp_path / "set.npz")
    np.savez(tmp_path / "set.npz", images=IMAGES)
    with pytest.raises(SourceError, match="holds images"):
        open_npz(tmp_path / "set.npz")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.array([print], object), labels=LABELS)
    with pytest.raises(SourceError, match="cannot be read"):
        open_npz(tmp_path / "set.npz")


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
    both = opened(tmp_path)
    assert len(both) == 15
    assert both.names[9] == "test/0"
    one = opened(tmp_path / f"train-images-idx3-ubyte{'.gz' if packed else ''}")
    assert len(one) == 9
    assert np.array_equal(np.asarray(one.images), np.asarray(both.images)[:9])


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 9))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int
) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.mktemp("idx") / "a-idx3-ubyte"
    path.write_bytes(idx(array))
    assert np.array_equal(read_idx(path), array)


WHOLE = idx(np.zeros((4, 5, 4), np.uint8))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(WHOLE[:-1], "another number of values than the 80 stated", id="cut"),
        pytest.param(b"", "no IDX header", id="empty"),
        pytest.param(b"\0\0\x0d\x03" + WHOLE[4:], "no IDX header of bytes", id="floats"),
        pytest.param(bytes((0, 0, 8, 3)) + b"\xff" * 12, "expands to more", id="huge"),
        pytest.param(bytes((0, 0, 8, 0)) + b"x", "impossible size", id="no dimensions"),
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
        opened(tmp_path)
    labels.unlink()
    with pytest.raises(SourceError, match="there is no train-labels-idx1-ubyte"):
        opened(tmp_path)


def test_other_labels_are_noticed(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 12, packed=False)
    images = str(tmp_path / "train-images-idx3-ubyte")
    before = sources.find_all(DataRecipe.of(images)).key
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx((np.arange(12) % 4).astype(np.uint8)))
    os.utime(labels, (1, 1))
    assert sources.find_all(DataRecipe.of(images)).key != before
