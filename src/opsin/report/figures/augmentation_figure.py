"""The figure that shows how training images are varied."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from opsin.report.figures.style import MUTED, new_figure, shorten, show_pixels


def draw_varied(
    images: Sequence[NDArray[np.uint8]],
    varied: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    title: str,
) -> Figure:
    """Draw a row for each image: as it is, then its variations."""
    count = len(varied[0])
    width = 0.92 * (count + 1) + 1.3
    # About ten letters of the title to an inch.
    lines = textwrap.wrap(title, int(10 * width))
    figure = new_figure(width, 0.98 * len(images) + 0.48 + 0.17 * len(lines))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    # A narrow empty column sets the image as it is apart from the others.
    widths = [1.0, 0.12, *[1.0] * count]
    grid = figure.add_gridspec(len(images), len(widths), width_ratios=widths)
    for row, (image, variations, name) in enumerate(zip(images, varied, names, strict=True)):
        axes = figure.add_subplot(grid[row, 0])
        show_pixels(axes, image)
        axes.set_ylabel(shorten(name, 16), rotation=0, ha="right", va="center", fontsize=8)
        if row == 0:
            axes.set_title("as it is", fontsize=8, fontweight="normal", color=MUTED)
        for place, variation in enumerate(variations):
            axes = figure.add_subplot(grid[row, place + 2])
            show_pixels(axes, variation)
            if row == place == 0:
                axes.set_title("as trained on", fontsize=8, fontweight="normal", color=MUTED)
    return figure
