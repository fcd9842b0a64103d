"""Each change to a training image is the one that its name says, and no other."""

from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from opsin.core.recipe import AUGMENTATIONS, DataRecipe, TrainingRecipe
from opsin.models.resolve import resolve
from opsin.training.augment import augment

OFF: dict[str, Any] = {**AUGMENTATIONS["none"], "shift": 0}
HEIGHT, WIDTH = 6, 5
#: Any combination of changes, strong ones among them.
PARTS = st.fixed_dictionaries(
    {
        "flip": st.booleans(),
        "shift": st.sampled_from([0, 1, 9]),
        "zoom": st.sampled_from([0.0, 0.1, 0.5]),
        "rotate": st.sampled_from([0.0, 8.0, 180.0]),
        "brightness": st.sampled_from([0.0, 0.3, 1.0]),
        "erase": st.sampled_from([0.0, 0.25, 0.9]),
        "crop": st.sampled_from([0.0, 0.3]),
        "colour": st.sampled_from([0.0, 0.4]),
    }
)
SEEDS = st.integers(0, 1000)


def recipe_of(**parts: Any) -> TrainingRecipe:
    return resolve(DataRecipe.of("x"), augment="none", **{**OFF, **parts}).training


def batch(count: int, seed: int = 0, shape: tuple[int, int, int] = (HEIGHT, WIDTH, 3)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def vary(images: Tensor, seed: int, **parts: Any) -> Tensor:
    return augment(images, recipe_of(**parts), torch.Generator().manual_seed(seed))


def moved(image: Tensor, down: int, right: int) -> Tensor:
    rows = (torch.arange(HEIGHT) + down).clamp(0, HEIGHT - 1)
    columns = (torch.arange(WIDTH) + right).clamp(0, WIDTH - 1)
    return image[rows][:, columns]


@given(parts=PARTS, seed=SEEDS, channels=st.sampled_from([1, 3]), count=st.integers(1, 5))
def test_shape_and_type_stay(parts: dict[str, Any], seed: int, channels: int, count: int) -> None:
    images = batch(count, seed, (HEIGHT, WIDTH, channels))
    before = images.clone()
    varied = vary(images, seed, **parts)
    assert (varied.shape, varied.dtype) == (images.shape, torch.uint8)
    assert varied.is_contiguous()
    assert torch.equal(images, before)


@given(parts=PARTS, seed=SEEDS)
def test_what_is_drawn_depends_on_the_shape_alone(parts: dict[str, Any], seed: int) -> None:
    states = []
    for pixels in (batch(4, 1), batch(4, 2), torch.zeros_like(batch(4))):
        generator = torch.Generator().manual_seed(seed)
        augment(pixels, recipe_of(**parts), generator)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@given(flip=st.booleans(), shift=st.integers(0, 3), seed=SEEDS)
def test_each_image_is_a_move_or_a_mirror_of_itself(flip: bool, shift: int, seed: int) -> None:
    images = batch(4, seed)
    for before, after in zip(images, vary(images, seed, flip=flip, shift=shift), strict=True):
        moves = [
            candidate
            for down in range(-shift, shift + 1)
            for right in range(-shift, shift + 1)
            for candidate in (
                [moved(before, down, right)]
                + ([moved(before, down, right).flip(1)] if flip else [])
            )
        ]
        assert any(torch.equal(after, move) for move in moves)


@pytest.mark.parametrize("parts", [{}, {"zoom": 1e-9}])
def test_those_to_be_mirrored_are_if_the_recipe_mirrors(parts: dict[str, float]) -> None:
    images = batch(6)
    chosen = torch.tensor([True, False, False, True, True, False])
    for flip in (True, False):
        recipe = recipe_of(flip=flip, **parts)
        changed = augment(images, recipe, torch.Generator().manual_seed(0), chosen)
        expected = torch.where((chosen & flip)[:, None, None, None], images.flip(2), images)
        assert (changed.int() - expected.int()).abs().max() <= (1 if parts else 0)


def dot(height: int, width: int, row: int, column: int) -> Tensor:
    """Return many images of one soft dot, so that its place can be measured."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    away = (rows - row) ** 2 + (columns - column) ** 2
    return (255 * torch.exp(-away / 8)).to(torch.uint8).expand(64, height, width)[..., None]


def place_of(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the dot of each image is, seen from the middle: down, right."""
    weights = images[..., 0].double()
    total = weights.sum(dim=(1, 2))
    _, height, width = weights.shape
    down = (weights.sum(dim=2) * (torch.arange(height) - (height - 1) / 2)).sum(dim=1) / total
    right = (weights.sum(dim=1) * (torch.arange(width) - (width - 1) / 2)).sum(dim=1) / total
    return down, right


@given(seed=SEEDS, shape=st.sampled_from([(41, 41), (41, 61), (61, 41)]))
def test_a_turn_keeps_the_distance_and_is_bounded(seed: int, shape: tuple[int, int]) -> None:
    height, width = shape
    images = dot(height, width, height // 2, width // 2 + 10)
    down, right = place_of(vary(images, seed, rotate=30.0))
    angles = torch.atan2(down, right).rad2deg()
    assert torch.allclose(torch.hypot(down, right), torch.tensor(10.0).double(), atol=0.1)
    assert angles.abs().max() <= 30.5
    assert angles.min() < -15
    assert angles.max() > 15


@given(seed=SEEDS)
def test_a_zoom_changes_the_distance_from_the_middle_by_its_share(seed: int) -> None:
    down, right = place_of(vary(dot(61, 51, 30, 35), seed, zoom=0.2))
    factors = right / 10
    assert torch.allclose(down, torch.zeros(()).double(), atol=0.05)
    assert 0.79 <= float(factors.min()) < 0.95
    assert 1.05 < float(factors.max()) <= 1.21


@given(light=st.sampled_from([0.1, 0.3, 1.0]), seed=SEEDS)
def test_light_is_one_line_through_the_values_of_each_image(light: float, seed: int) -> None:
    images = batch(6, seed)
    for before, after in zip(images, vary(images, seed, brightness=light), strict=True):
        old, new = before.flatten().double(), after.flatten().double()
        order = old.argsort()
        assert bool((new[order].diff() >= 0).all()), "brighter stays brighter"
        inside = (new > 0) & (new < 255)
        if inside.sum() > 2 and old[inside].std() > 5:
            slope = torch.dot(old[inside] - old[inside].mean(), new[inside]) / (
                (old[inside] - old[inside].mean()).square().sum()
            )
            assert (1 - light) ** 2 - 0.1 <= float(slope) <= (1 + light) ** 2 + 0.1
            line = new[inside].mean() + slope * (old[inside] - old[inside].mean())
            assert (new[inside] - line).abs().max() < 1.1


@given(seed=SEEDS)
def test_a_crop_shows_a_part_of_its_share_and_nothing_outside(seed: int) -> None:
    ramps = torch.stack(torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij"), dim=2)
    images = (2 * ramps).to(torch.uint8)[None].repeat(8, 1, 1, 1)
    seen = vary(images, seed, crop=0.25, crop_side=48)
    assert seen.shape == (8, 48, 48, 2)
    for image in seen.double():
        down, right = ((image[-1, -1] - image[0, 0]) / 2 / 47 * 48 / 96).tolist()
        assert 0.22 <= down * right <= 1.02
        assert 0.7 < down / right < 1.43


@given(seed=SEEDS)
def test_colour_keeps_grey_nearly_grey_and_black_black(seed: int) -> None:
    assert not vary(torch.zeros((4, 3, 3, 3), dtype=torch.uint8), seed, colour=0.4).any()
    grey = torch.full((4, 3, 3, 3), 100, dtype=torch.uint8)
    varied = vary(grey, seed, colour=0.4).double()
    assert float(varied.min()) >= 89 and float(varied.max()) <= 111
    assert not torch.equal(vary(batch(4, seed), seed, colour=0.4), batch(4, seed))


@given(erase=st.sampled_from([0.1, 0.25, 0.5, 0.9]), seed=SEEDS)
def test_a_square_is_put_out_and_nothing_else(erase: float, seed: int) -> None:
    height, width = 12, 17
    # No image holds the mean of the batch.
    images = torch.where(batch(20, seed, (height, width, 1)) < 128, 20, 220).to(torch.uint8)
    side = max(1, round(erase * min(height, width)))
    varied = vary(images, seed, erase=erase)
    fill = int(varied[~torch.isin(varied, torch.tensor([20, 220], dtype=torch.uint8))][0])
    assert abs(fill - float(images.float().mean())) < 30
    for before, after in zip(images[..., 0], varied[..., 0], strict=True):
        changed = (after != before).nonzero()
        top, left = changed.min(dim=0).values.tolist()
        bottom, right = (changed.max(dim=0).values + 1).tolist()
        assert bool((after[top:bottom, left:right] == fill).all())
        assert len(changed) == (bottom - top) * (right - left)
        for low, high, size in ((top, bottom, height), (left, right, width)):
            at_border = low == 0 or high == size
            assert high - low == side or (at_border and high - low >= side // 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_on_a_gpu_stay_there_and_are_the_same() -> None:
    images = batch(16, shape=(32, 32, 3))
    for parts in ({"flip": True, "shift": 2, "erase": 0.25}, {"rotate": 9.0, "brightness": 0.3}):
        here, there = vary(images, 5, **parts), vary(images.cuda(), 5, **parts)
        assert there.is_cuda
        assert (here.int() - there.cpu().int()).abs().max() <= 1
