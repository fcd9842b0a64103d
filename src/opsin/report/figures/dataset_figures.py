"""Figures of a collection of images, and of how they are varied in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from opsin.core.arrays import Ints, Pixels
from opsin.data.lazy_images import Images
from opsin.report.figures.style import MUTED, PALETTE, new_figure, shorten, show_pixels, title_of


def draw_heat_map(pixels: Pixels, title: str) -> Figure:
    """Draw one image enlarged, its values as colours with a bar from 0 to 255."""
    figure = new_figure(5.2, 4.4)
    axes = figure.add_subplot()
    brightness = pixels.mean(axis=2)
    drawn = axes.imshow(brightness, cmap="viridis", vmin=0, vmax=255, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set(title=shorten(title, 44), xlabel="column (pixels)", ylabel="row (pixels)")
    figure.colorbar(drawn, ax=axes, label="value (0 black to 255 white)", ticks=range(0, 256, 51))
    return figure


def draw_grid(images: Sequence[Pixels], names: Sequence[str], title: str) -> Figure:
    """Draw up to 25 images with a name under each."""
    columns = min(5, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(1.45 * columns + 0.2, 1.62 * rows + 0.4)
    title_of(figure, title)
    for index, (pixels, name) in enumerate(zip(images, names, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, index)
        show_pixels(axes, pixels)
        axes.set_xlabel(shorten(name), fontsize=8)
    return figure


def draw_means(means: Pixels, classes: Sequence[str]) -> Figure:
    """Draw the mean image of each class, ``uint8[K, H, W, C]``; 25 classes at most."""
    shown = min(25, len(classes))
    title = "The mean image of each class"
    if shown < len(classes):
        title += f" (the first {shown} of {len(classes)})"
    return draw_grid(list(means[:shown]), classes[:shown], title)


def draw_class_sizes(counts: dict[str, dict[str, int]]) -> Figure:
    """Draw how many images each class has in each part of the split."""
    names = list(counts)
    shown = names[:60]
    figure = new_figure(6.4, 0.9 + 0.27 * len(shown))
    axes = figure.add_subplot()
    positions = np.arange(len(shown))
    left = np.zeros(len(shown))
    for part, colour in zip(("train", "val", "test"), PALETTE, strict=False):
        values = np.array([counts[name][part] for name in shown])
        if values.any():
            axes.barh(positions, values, left=left, color=colour, label=part, height=0.72)
        left += values
    ends = axes.barh(positions, 0, left=left)
    axes.bar_label(ends, [f"{int(total):,}" for total in left], padding=4, fontsize=8, color=MUTED)
    axes.set_yticks(positions, [shorten(name, 24) for name in shown])
    axes.invert_yaxis()
    axes.margins(y=0.02)
    axes.grid(axis="x")
    sizes = [sum(parts.values()) for parts in counts.values()]
    balance = f"Classes have {min(sizes):,} to {max(sizes):,} images"
    if min(sizes) == max(sizes):
        balance = f"All {len(names)} classes have {sizes[0]:,} images"
    axes.set(xlabel="images", title=balance, xlim=(0, 1.12 * left.max()))
    figure.legend(ncols=3, frameon=False, loc="outside lower right", fontsize=8)
    return figure


def class_means(images: Images, labels: Ints, rows: Ints, classes: int) -> Pixels:
    """Return the mean image of each class, ``uint8[K, H, W, C]``, read block by block."""
    sums = np.zeros((classes, *images.shape[1:]), np.int64)
    for start in range(0, len(rows), 1024):
        indices = rows[start : start + 1024]
        block, block_labels = images[indices], labels[indices]
        for label in np.unique(block_labels):
            sums[label] += block[block_labels == label].sum(axis=0, dtype=np.int64)
    counts = np.maximum(np.bincount(labels[rows], minlength=classes), 1)
    return (sums / counts[:, None, None, None]).round().astype(np.uint8)
