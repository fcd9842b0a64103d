"""Views of an image: moved and mirrored as far as its training did, and small ones not moved."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.runtime.test_time_augmentation import views


@pytest.mark.parametrize(("side", "step"), [(28, 1), (64, 1), (128, 2), (224, 4)])
def test_views_are_moved_by_a_small_share(side: int, step: int) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, side, side + 8, 3), np.uint8)
    plain, *moved = views(images, flip=False, shift=8)
    assert plain is images
    assert len(moved) == 4
    inner = slice(step, -step)
    ways = {(down, right) for down in (-step, step) for right in (-step, step)}
    for view in moved:
        assert view.shape == images.shape
        found = [
            (down, right)
            for down, right in ways
            if np.array_equal(
                view[:, inner, inner], np.roll(images, (down, right), (1, 2))[:, inner, inner]
            )
        ]
        assert len(found) == 1
        ways.discard(found[0])


def test_what_comes_into_sight_repeats_the_border() -> None:
    images = np.arange(28 * 28, dtype=np.uint16).astype(np.uint8).reshape(1, 28, 28, 1)
    view = list(views(images, flip=False, shift=1))[1][0, :, :, 0]
    assert np.array_equal(view[1:, 1:], images[0, :-1, :-1, 0])
    assert np.array_equal(view[0], view[1])
    assert np.array_equal(view[:, 0], view[:, 1])


def test_mirrored_views_are_those_of_the_mirrored_image() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 39, 37, 1), np.uint8)
    both = list(views(images, flip=True, shift=3))
    alone = list(views(np.ascontiguousarray(images[:, :, ::-1]), flip=False, shift=3))
    assert len(both) == 10
    assert all(np.array_equal(one, two) for one, two in zip(both[5:], alone, strict=True))
