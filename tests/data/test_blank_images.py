"""One colour is told; images of something are not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opsin.core.metadata import Preparation
from opsin.data.blank_images import has_no_contrast
from opsin.data.dataset import Dataset
from opsin.data.images import read_image


def as_jpeg(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    return stream.getvalue()


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (64, 3)])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 90)])
def test_one_colour_is_told(side: int, channels: Any, colour: tuple[int, int, int]) -> None:
    like = Preparation(height=side, width=side, channels=channels, resize="fit")
    image = np.full((90, 120, 3), colour, np.uint8)
    sensor = np.random.default_rng(0).normal(image, 3).clip(0, 255).astype(np.uint8)
    for shown in (image, as_jpeg(image), sensor):
        assert has_no_contrast(read_image(shown, like))


def test_digits_are_something(digits: Dataset) -> None:
    assert not any(map(has_no_contrast, digits.images[:600]))
