"""Disturbances are small, the same each time, and their cost is measured pair by pair."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import opsin
from opsin.evaluation.robustness import DISTURBANCES, paired_change, robustness

NAMES = [kind.name for kind in DISTURBANCES]


def disturbed_examples(pixels: NDArray[np.uint8], *, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    return {
        kind.name: np.concatenate(
            [kind.apply(pixels[None], strength, [seed, number]) for strength in kind.strengths]
        )
        for number, kind in enumerate(DISTURBANCES)
    }


def smooth_image(side: int, channels: int) -> NDArray[np.uint8]:
    """Return waves, which look alike at any size."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    light = 128 + 100 * np.sin(12 * x) * np.sin(14 * y)
    return np.repeat(light[:, :, None], channels, axis=2).round().astype(np.uint8)


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 40, 3), (64, 32, 1)])
def test_disturbed_images_keep_their_shape_and_type(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    before = pixels.copy()
    for steps in disturbed_examples(pixels).values():
        assert steps.shape == (3, *shape)
        assert steps.dtype == np.uint8
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("name", NAMES)
def test_stronger_is_further_away_and_alike_at_every_size(name: str) -> None:
    apart = {}
    for side in (50, 100):
        image = smooth_image(side, 1)
        steps = disturbed_examples(image, seed=4)[name].astype(np.float64)
        apart[side] = np.abs(steps - image).mean(axis=(1, 2, 3))
        assert np.all(np.diff(apart[side]) > 0)
    # JPEG's blocks are of 8 pixels whatever the size is.
    if name != "JPEG":
        assert apart[50] == pytest.approx(apart[100], rel=0.2)


def test_figures_are_those_of_the_answers(digits: opsin.Dataset) -> None:
    rows = digits.split.test
    means = np.stack(
        [digits.images[digits.labels == k].reshape(-1, 64).mean(axis=0) for k in range(10)]
    )
    asked: list[NDArray[np.uint8]] = []

    def answer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(pixels)
        flat = pixels.reshape(len(pixels), -1).astype(np.float64)
        scores: NDArray[Any] = -((flat[:, None] - means) ** 2).sum(axis=2)
        return scores.astype(np.float32)

    found = robustness(answer, digits.images, digits.labels, rows, most=80)
    assert [kind.name for kind in found.kinds] == NAMES
    assert (found.images, found.of, len(asked)) == (80, len(rows), 19)
    # The first images asked about are whole, and some of the rows.
    places = [
        int(np.flatnonzero((digits.images[rows] == each).all(axis=(1, 2, 3)))[0])
        for each in asked[0]
    ]
    labels = digits.labels[rows][places]
    before = answer(asked[0]).argmax(axis=1) == labels
    assert found.accuracy == before.mean()
    for number, level in enumerate(level for kind in found.kinds for level in kind.levels):
        after = answer(asked[1 + number]).argmax(axis=1) == labels
        assert level.accuracy == after.mean()
        assert level.low <= level.accuracy <= level.high
        assert level.lost == (before & ~after).sum()
        assert level.change == pytest.approx(after.mean() - before.mean())
        assert level.change_low <= level.change <= level.change_high
    json.dumps(found.model_dump(mode="json", exclude_unset=True))


def test_the_interval_of_the_change_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    drawn = random.multinomial(300, [0.08, 0.03, 0.89], 4000)
    hits = [
        low <= -0.05 <= high
        for low, high in (paired_change(int(lost), int(won), 300) for lost, won, _ in drawn)
    ]
    assert 0.93 <= np.mean(hits) <= 0.975


def test_images_of_one_group_are_one_observation() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 1), np.uint8)
    labels = np.zeros(60, np.int64)

    def answer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        first = (pixels.mean(axis=(1, 2, 3)) < 129).astype(np.float32)
        return np.stack([first, 1 - first], axis=1)

    alone, grouped = (
        robustness(answer, images, labels, np.arange(60), groups=groups)
        for groups in (None, np.arange(60) // 6)
    )
    assert grouped.accuracy == alone.accuracy
    assert grouped.high - grouped.low > alone.high - alone.low
    level, other = (each.kinds[0].levels[0] for each in (grouped, alone))
    assert (level.lost, level.won, level.change) == (other.lost, other.won, other.change)
    assert level.change_high - level.change_low > other.change_high - other.change_low
