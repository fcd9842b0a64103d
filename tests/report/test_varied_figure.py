"""The figure of variations shows every pixel of every image, whatever the classes are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.report.figures.dataset_figures import draw_varied
from opsin.report.figures.style import save, styled


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 40, 3), (64, 32, 3)])
@pytest.mark.parametrize("names", [["a"], ["$x_{", "漢字" * 20, "<b>"]])
def test_each_image_stands_beside_its_variations(
    tmp_path: Path, shape: tuple[int, int, int], names: list[str]
) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, shape, np.uint8) for _ in names]
    varied = [random.integers(0, 256, (5, *shape), np.uint8) for _ in names]
    with styled():
        figure = draw_varied(images, varied, names, "Mirrored")
        save(figure, tmp_path / "varied.svg")
        assert np.asarray(Image.open(save(figure, tmp_path / "varied.png"))).std() > 1
    shown = [axes.images[0].get_array() for axes in figure.axes]
    expected = [image for row in zip(images, varied, strict=True) for image in (row[0], *row[1])]
    assert len(shown) == len(expected) == 6 * len(names)
    for array, image in zip(shown, expected, strict=True):
        assert np.array_equal(np.asarray(array).reshape(shape), image)
    assert all(axes.images[0].get_interpolation() == "nearest" for axes in figure.axes)
