"""Arrays that can mean one thing are taken; for others the advice is a line that works."""

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


# An array, and the word that names what is wrong with it; the advice leads to `grey` or `colour`.
WRONG: dict[str, tuple[NDArray[Any], str, NDArray[np.uint8], float]] = {
    "channels first": (colour().transpose(2, 0, 1), "channels come first", colour(), 0),
    "batch of one, channels first": (
        colour().transpose(2, 0, 1)[None], "channels come first", colour(), 0,
    ),
    "grey beside alpha": (np.stack([grey(), grey()], axis=2), "2 channels", grey(), 0),
    "flat": (grey(6, 6).ravel(), "one axis", grey(6, 6), 0),
    "16 bits": (grey().astype(np.uint16) * 257, "0 to 65535", grey(), 0),
    "12 bits": (grey().astype(np.int64) * 16, "0 to 4080", grey(), 0),
    "below zero": (grey().astype(np.int16) - 1, "-1 to 254", grey(), 1),
    "fractions beyond 1": (grey() / 255 * 1.04 - 0.02, "-0.02 to 1.02", grey(), 6),
    "-1 to 1": (grey() / 127.5 - 1, "-1 to 1", grey(), 0),
    "fractions up to 255": (grey() - grey() / 1000, "0 to 254.745", grey(), 1),
    "16 bits as fractions": (grey() * 257.0 - grey() / 1000, "0 to 65534.7", grey(), 1),
    "standardised": ((grey() / 255 - 0.4) / 0.2, "-2 to 3", grey(), 0),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_the_advice_is_a_line_that_works(what: str) -> None:
    array, word, wanted, off = WRONG[what]
    with pytest.raises(ImageError) as caught:
        read(array)
    assert word in caught.value.received
    line = caught.value.advice.rpartition(": ")[2]
    mended = eval(line, {"a": array, "mean": 0.4, "std": 0.2})
    assert np.abs(read(mended).astype(int) - wanted).max() <= off


@pytest.mark.parametrize(
    ("array", "line"),
    [
        (np.stack([colour()] * 2), "classifier.predict(list(a))"),
        (np.stack([grey()] * 5), "classifier.predict(list(a))"),
        (np.stack([colour()] * 2).transpose(0, 3, 1, 2),
         "classifier.predict(list(a.transpose(0, 2, 3, 1)))"),
    ],
)  # fmt: skip
def test_a_batch_goes_as_a_list(array: NDArray[Any], line: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(array)
    assert caught.value.advice.endswith(line)


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
