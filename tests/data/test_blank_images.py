"""One colour, gradients and noise are told; images of something are not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opsin.core.metadata import Preparation
from opsin.data.blank_images import GRADIENT, NO_CONTRAST, NOISE, warning_of
from opsin.data.dataset import Dataset
from opsin.data.images import read_image

PREPARED = [
    Preparation(height=side, width=side, channels=channels, resize="fit")
    for side, channels in ((28, 1), (32, 3), (64, 3))
]


def as_jpeg(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    return stream.getvalue()


@pytest.mark.parametrize("like", PREPARED)
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 90)])
def test_one_colour_is_told(like: Preparation, colour: tuple[int, int, int]) -> None:
    image = np.full((90, 120, 3), colour, np.uint8)
    assert warning_of(read_image(image, like)) == NO_CONTRAST
    assert warning_of(read_image(as_jpeg(image), like)) == NO_CONTRAST
    sensor = np.random.default_rng(0).normal(image, 3).clip(0, 255).astype(np.uint8)
    assert warning_of(read_image(sensor, like)) == NO_CONTRAST


@pytest.mark.parametrize("like", PREPARED)
@pytest.mark.parametrize("way", ["across", "down", "corner", "round"])
def test_gradients_are_told(like: Preparation, way: str) -> None:
    down, across = np.mgrid[:100, :100] / 99
    ramp = {"across": across, "down": down, "corner": (across + down) / 2,
            "round": 1 - ((across - 0.5) ** 2 + (down - 0.5) ** 2)}[way]  # fmt: skip
    image = np.stack([255 * ramp, 255 * (1 - ramp), 90 + 60 * ramp], axis=2).astype(np.uint8)
    assert warning_of(read_image(image, like)) == GRADIENT
    assert warning_of(read_image(as_jpeg(image), like)) == GRADIENT


@pytest.mark.parametrize("like", PREPARED)
@pytest.mark.parametrize("side", [64, 224, 500])
def test_noise_is_told(like: Preparation, side: int) -> None:
    random = np.random.default_rng(side)
    for _ in range(10):
        for image in (
            random.integers(0, 256, (side, side, 3), np.uint8),
            random.normal(128, 40, (side, side)).clip(0, 255).astype(np.uint8),
        ):
            # Much of it averages out: the network sees what is left.
            assert warning_of(read_image(image, like)) in (NOISE, NO_CONTRAST)


@pytest.mark.parametrize("side", [None, 16, 28])
def test_digits_are_something(side: int | None, digits: Dataset) -> None:
    height, width = (side or 8, side or 8)
    like = Preparation(height=height, width=width, channels=1, resize="fit")
    said = {warning_of(read_image(image, like)) for image in digits.images[:600]}
    assert said == {None}
