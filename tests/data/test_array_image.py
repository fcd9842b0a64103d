"""Arrays that can mean one thing are taken; others are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from opsin.core.errors import ImageError
from opsin.data.array_image import image_from_array


def grey(height: int = 6, width: int = 9) -> NDArray[np.uint8]:
    return (np.arange(height * width) * 255 / (height * width - 1)).round().astype(
        np.uint8
    ).reshape(height, width)  # fmt: skip


def colour() -> NDArray[np.uint8]:
    return np.stack([grey(), grey()[::-1], grey()[:, ::-1]], axis=2)


def read(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(image_from_array(array, "it")[0])


@pytest.mark.parametrize(
    "array",
    [
        grey(), grey()[..., None], grey()[None], grey()[None, ..., None], grey()[None, None],
        *(grey().astype(kind) for kind in ("int16", "int64", "uint16", "float32", "float64")),
        grey() / 255, (grey() / np.float32(255)), np.asfortranarray(grey()),
    ],
)  # fmt: skip
def test_what_can_mean_one_thing_is_taken(array: NDArray[Any]) -> None:
    assert np.array_equal(read(array), grey())


def test_what_numbers_were_taken_for_is_said() -> None:
    assert image_from_array(grey(), "it")[1] is None
    assert image_from_array(grey().astype(int), "it")[1] is None
    assert "0 to 1" in str(image_from_array(grey() / 255, "it")[1])
    mask, note = image_from_array(grey() > 100, "it")
    assert "True taken as white" in str(note)
    assert np.array_equal(np.asarray(mask), np.where(grey() > 100, 255, 0))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (colour().transpose(2, 0, 1), r"\[3, 6, 9\].*channels last"),
        (np.stack([colour()] * 2), r"\[2, 6, 9, 3\].*several images as a list"),
        (np.stack([grey(), grey()], axis=2), r"\[6, 9, 2\]"),
        (grey().astype(np.uint16) * 257, "from 0 to 65535"),
        (grey() / 127.5 - 1, "from -1 to 1"),
    ],
)
def test_what_can_mean_several_things_is_refused(array: NDArray[Any], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read(array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 9)), np.zeros((6, 0, 3)), np.array(7), np.array(None), np.array("a.png"),
        np.array([["a"]]), np.full((4, 4), 1j), np.full((4, 4), None), np.full((4, 4), np.nan),
        np.full((4, 4), np.inf), np.zeros((4, 4), "datetime64[s]"), np.zeros((4, 4), "V3"),
        np.arange(17), np.full((3, 4), 1e300), np.full((3, 4), -(2**62)),
    ],
)  # fmt: skip
def test_nothing_else_is_raised(array: NDArray[Any]) -> None:
    with pytest.raises(ImageError):
        read(array)
