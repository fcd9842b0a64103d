"""Views of a picture: moved by a pixel or so, and mirrored only where that is safe."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.data.views import views


@pytest.mark.parametrize(("side", "step"), [(8, 1), (28, 1), (64, 1), (128, 2), (224, 4)])
def test_views_are_moved_by_a_small_share(side: int, step: int) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, side, side + 8, 3), np.uint8)
    plain, *moved = views(images, mirrored=False)
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
    images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    view = list(views(images, mirrored=False))[1]
    assert view[0, :, :, 0].tolist() == [[0, 0, 1, 2], [0, 0, 1, 2], [4, 4, 5, 6], [8, 8, 9, 10]]


def test_mirrored_views_are_those_of_the_mirrored_picture() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 1), np.uint8)
    both = list(views(images, mirrored=True))
    alone = list(views(np.ascontiguousarray(images[:, :, ::-1]), mirrored=False))
    assert len(both) == 10
    assert all(np.array_equal(one, two) for one, two in zip(both[5:], alone, strict=True))


def test_the_smallest_pictures_have_views() -> None:
    assert len(list(views(np.zeros((1, 1, 1, 1), np.uint8), mirrored=True))) == 10
