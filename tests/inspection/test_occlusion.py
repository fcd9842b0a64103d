"""Hiding finds what the answer hangs on, where that is known beforehand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from opsin.core.stored_json import plain_data
from opsin.inspection.occlusion import (
    Answer,
    counterfactual,
    most_occluded,
    most_tried,
    occlusion_map,
)

BLACK = np.zeros(1, np.uint8)


def white(height: int, width: int, channels: int = 1) -> NDArray[np.uint8]:
    return np.full((height, width, channels), 255, np.uint8)


def looking_at(top: int, left: int, bottom: int, right: int) -> Answer:
    """Return an answer that is the light within a box, against the rest."""

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        light = images[:, top:bottom, left:right].mean(axis=(1, 2, 3)) / 255
        return np.stack([light, 1 - light], axis=1).astype(np.float32)

    return answer


@pytest.mark.parametrize("seconds", [math.inf, 0])
@pytest.mark.parametrize(
    ("height", "width", "channels"), [(28, 28, 1), (32, 48, 3), (5, 3, 1), (1, 1, 1), (9, 200, 1)]
)
def test_the_map_is_bright_where_the_answer_looks_and_dark_elsewhere(
    height: int, width: int, channels: int, seconds: float
) -> None:
    box = (0, 0, max(1, height // 4), max(1, width // 4))
    heat = occlusion_map(
        looking_at(*box),
        white(height, width, channels),
        0,
        np.zeros(channels, np.uint8),
        seconds=seconds,
    )
    assert heat.shape == (height, width) and heat.dtype == np.float32
    assert np.isfinite(heat).all()
    assert heat[: box[2], : box[3]].min() > 0
    # A patch reaches at most one of its own sides beyond the box.
    reach = max(1, round(min(height, width) / 7))
    assert np.all(heat[box[2] + reach :] == 0) and np.all(heat[:, box[3] + reach :] == 0)


@pytest.mark.parametrize(("side", "most"), [(28, 1_400), (224, 420)])
def test_large_images_cost_fewer_questions(side: int, most: int) -> None:
    asked = 0

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal asked
        asked += len(images)
        assert images.size <= 4_000_000  # a batch, not everything
        return np.tile(np.array([0.9, 0.1], np.float32), (len(images), 1))

    image = white(side, side)
    heat = occlusion_map(answer, image, 0, BLACK)
    assert asked == 170 == most_occluded(side, side)
    occlusion_map(answer, image, 0, BLACK, seconds=0)
    assert asked == 170 + 50
    assert counterfactual(answer, image, heat, BLACK, "ab") is None
    assert asked - 50 <= 170 + most_tried(side, side) <= most


def test_the_smallest_patch_that_changes_the_answer_is_found() -> None:
    # The answer changes once more than half of a 5×5 box is hidden: four by four are enough.
    answer, image = looking_at(8, 10, 13, 15), white(28, 28)
    found = counterfactual(answer, image, occlusion_map(answer, image, 0, BLACK), BLACK, "ab")
    assert found is not None and found.box is not None
    top, left, bottom, right = found.box
    assert (bottom - top, right - left) == (4, 4)
    assert 8 <= top < bottom <= 13 and 10 <= left < right <= 15
    assert (found.before, found.after) == ("a", "b")
    assert found.before_probability == 1.0 and found.after_probability == pytest.approx(16 / 25)
    assert found.hidden.sum() == 16 and found.share == pytest.approx(16 / 784)
    assert np.all(found.pixels[found.hidden] == 0) and np.all(found.pixels[~found.hidden] == 255)
    assert json.loads(json.dumps(plain_data(found)))["box"] == [top, left, bottom, right]


def test_where_no_patch_does_it_parts_are_hidden_together() -> None:
    def corners(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        lit = [images[:, y, x, 0] / 255 for y in (0, 27) for x in (0, 27)]
        light = 0.05 + 0.9 * np.mean(lit, axis=0)  # all four must go
        light = np.where(np.mean(lit, axis=0) > 0, 0.5 + light / 2, light)
        return np.stack([light, 1 - light], axis=1).astype(np.float32)

    image = white(28, 28)
    found = counterfactual(corners, image, occlusion_map(corners, image, 0, BLACK), BLACK, "ab")
    assert found is not None and found.box is None
    assert found.hidden[0, 0] and found.hidden[27, 27] and found.share < 0.2


@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_what_is_found_does_change_the_answer(height: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(height * width, 3)) / 300

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        raised = np.exp(images.reshape(len(images), -1) @ weight)
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)

    image = random.integers(0, 256, (height, width, 1), np.uint8)
    fill = np.array([127], np.uint8)
    before = int(answer(image[None])[0].argmax())
    found = counterfactual(answer, image, occlusion_map(answer, image, before, fill), fill, "abc")
    if found is not None:
        assert found.before == "abc"[before] != found.after
        assert "abc"[int(answer(found.pixels[None])[0].argmax())] == found.after
        assert np.array_equal(found.pixels[~found.hidden], image[~found.hidden])
