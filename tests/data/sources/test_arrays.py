"""Arrays and .npz files: checked before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.core.errors import SourceError
from opsin.data.sources.arrays import from_arrays, open_npz
from opsin.data.split import TEST, TRAIN

IMAGES = np.zeros((6, 8, 8), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_the_names_of_keras_will_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", x_train=IMAGES, y_train=LABELS[:, None],
             x_test=IMAGES[:3], y_test=LABELS[:3])  # fmt: skip
    contents = open_npz(tmp_path / "k.npz")
    assert contents.given.tolist() == [TRAIN] * 6 + [TEST] * 3
    assert isinstance(contents.images, np.ndarray)
    assert contents.images.shape == (9, 8, 8, 1)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "words"),
    [
        (IMAGES / 255, LABELS, None, r"\(255.0 \* images\).round"),
        (IMAGES - 0.5, LABELS, None, "from -0.5 to -0.5"),
        (IMAGES[:, :, :, None, None], LABELS, None, "uint8"),
        (IMAGES[:, None], LABELS, None, "uint8"),
        ([IMAGES[0], IMAGES[0, :4]], LABELS[:2], None, "np.stack"),
        (None, LABELS, None, "uint8"),
        (IMAGES, LABELS[:4], None, "one for each image"),
        (IMAGES, LABELS + 0.5, None, "whole numbers"),
        (IMAGES, LABELS - 1, None, "whole numbers from 0"),
        (IMAGES, np.array(list("catdog")), None, "whole numbers"),
        (IMAGES, LABELS + 10**10, None, "at most 99,999"),
        (IMAGES[:, :0], LABELS, None, "uint8"),
        (IMAGES, LABELS, ["a", "b"], "3 different ones"),
        (IMAGES, LABELS, ["a", "b", "b"], "3 different ones"),
        (IMAGES, LABELS, ["a", "\u00e9", "e\u0301"], "3 different ones"),
        (IMAGES[:0], LABELS[:0], None, "one for each image"),
    ],
)
def test_what_does_not_fit_is_explained(images: Any, labels: Any, classes: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        from_arrays(images, labels, classes)


def test_whole_numbers_of_any_type_will_do() -> None:
    images = np.arange(6 * 64).reshape(6, 8, 8) % 256
    contents = from_arrays(images, LABELS)
    assert isinstance(contents.images, np.ndarray)
    assert contents.images.dtype == np.uint8
    assert np.array_equal(contents.images[..., 0], images)


def test_test_images_must_have_the_same_shape() -> None:
    with pytest.raises(SourceError, match="has test images"):
        from_arrays(IMAGES, LABELS, test=(IMAGES[:, :4], LABELS))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(SourceError, match=r"set\.npz"):
        open_npz(tmp_path / "set.npz")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.array([print], object), labels=LABELS)
    with pytest.raises(SourceError, match="cannot be read"):
        open_npz(tmp_path / "set.npz")


def test_a_missing_array_is_named_with_those_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES)
    with pytest.raises(SourceError, match="holds images"):
        open_npz(tmp_path / "set.npz")
