"""Photographs become what the network was trained on; one colour is nothing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from PIL import Image

from opsin.core.metadata import Background, Preparation
from opsin.data.dataset import Dataset
from opsin.data.images import read_image
from opsin.data.network_pixels import has_no_contrast, match_background
from tests.data.test_formats import encoded

DARK = Background(level=0, share=1.0, fill=1.0, contrast=200.0)


def wanted(background: Background | None, *, side: int = 28, channels: int = 1) -> Preparation:
    return Preparation(
        height=side, width=side, channels=channels, resize="fit", background=background
    )


def photograph(shape: NDArray[np.uint8], *, light: int = 235) -> Image.Image:
    """Lay a white-on-black shape, dark, on an unevenly lit table three times its size."""
    large = np.asarray(Image.fromarray(shape).resize((120, 120), Image.Resampling.BILINEAR))
    scene = np.full((240, 320), float(light))
    scene -= np.linspace(0, 12, 320)
    scene[60:180, 100:220] *= 1 - 0.8 * large / 255
    return Image.fromarray(scene.astype(np.uint8)).convert("RGB")


def test_a_photographed_digit_looks_like_the_digit(digits: Dataset) -> None:
    likeness = []
    for row in digits.split.test[:40]:
        shape = digits.images[row, :, :, 0]
        matched = match_background(photograph(shape), digits.preparation)
        assert matched is not None
        assert matched[1] == "light background turned dark, as in training"
        pixels = matched[0][:, :, 0].astype(float).ravel()
        likeness.append(np.corrcoef(pixels, shape.astype(float).ravel())[0, 1])
    # The digits are tiny and some do not fill their square: alike on the whole is what counts.
    assert np.median(likeness) > 0.8


def test_dark_photographs_are_turned_for_light_training_images() -> None:
    light = Background(level=255, share=1.0, fill=1.0, contrast=200.0)
    night = np.zeros((40, 40), np.uint8)
    night[10:30, 15:25] = 180
    matched = match_background(Image.fromarray(night), wanted(light))
    assert matched is not None
    assert matched[1] == "dark background turned light, as in training"
    assert matched[0][0, 0] == 255
    assert matched[0].min() < 80


def test_an_empty_table_stays_as_it_is() -> None:
    table = np.full((30, 20, 3), 240, np.uint8)
    sensor = np.random.default_rng(0).normal(table, 2).clip(0, 255).astype(np.uint8)
    for image in (table, sensor):
        assert match_background(Image.fromarray(image), wanted(DARK)) is None


@pytest.mark.parametrize("mode", ["L", "RGB"])
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    seed=st.integers(0, 99),
    low=st.integers(0, 255),
)
def test_any_image_can_be_matched(mode: str, height: int, width: int, seed: int, low: int) -> None:
    random = np.random.default_rng(seed)
    shape = (height, width) if mode == "L" else (height, width, 3)
    image = Image.fromarray(random.integers(low, 256, shape, np.uint8))
    matched = match_background(image, wanted(DARK, side=9, channels=3))
    assert matched is None or matched[0].shape == (9, 9, 3)


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (64, 3)])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 90)])
def test_one_colour_is_told(side: int, channels: Any, colour: tuple[int, int, int]) -> None:
    like = Preparation(height=side, width=side, channels=channels, resize="fit")
    image = np.full((90, 120, 3), colour, np.uint8)
    sensor = np.random.default_rng(0).normal(image, 3).clip(0, 255).astype(np.uint8)
    for shown in (image, encoded(Image.fromarray(image), "JPEG"), sensor):
        assert has_no_contrast(read_image(shown, like))
