"""Figures of where a classifier fails: slices, disturbed images, and the map."""

from __future__ import annotations

import re
import textwrap
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from opsin.core.arrays import Doubles, Ints
from opsin.core.artifacts.run_report import MapFigures, RobustnessFigures, Slice, Slices
from opsin.report.figures.style import (
    INK,
    MUTED,
    PALETTE,
    RIGHT,
    WRONG,
    new_figure,
    shorten,
    title_of,
)

#: Slices drawn of one trait, and classes named on the map, at most.
_SLICES, _NAMED = 12, 20
# Marks that tell classes of the same colour apart.
_MARKS: Final = "os^Dv"


def draw_slices(figures: Slices) -> Figure:
    """Draw the accuracy of every slice with its interval, the weak ones in red."""
    shown = [
        (trait.name, _shown(trait.slices))
        for trait in figures.traits
        if any(entry.p is not None for entry in trait.slices)
    ]
    if not shown:
        return _nothing("The images are too few, or too much alike, to be told apart by kind")
    columns = min(2, len(shown))
    tallest = [
        max(len(slices) for _, slices in shown[first : first + columns])
        for first in range(0, len(shown), columns)
    ]
    figure = new_figure(4.5 * columns, 0.95 + sum(0.8 + 0.25 * tall for tall in tallest))
    # Between the weakest and the strongest, so that differences are seen.
    low = min(entry.low for _, slices in shown for entry in slices)
    high = max(entry.high for _, slices in shown for entry in slices)
    grid = figure.add_gridspec(len(tallest), columns, height_ratios=[tall + 2 for tall in tallest])
    for index, (name, slices) in enumerate(shown):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        _draw_trait(axes, name, slices, figures.accuracy)
        axes.set_xlim(max(0.0, low - 0.02), min(1.005, high + 0.02))
        if index >= len(shown) - columns:
            axes.set_xlabel("accuracy, with its 95% interval")
    _head(
        figure,
        slices_title(figures),
        f"line: all {figures.images:,} images, {figures.accuracy:.4f} · × what the slice's "
        "classes alone explain · faint: too few to be judged",
    )
    return figure


def slices_title(slices: Slices) -> str:
    """Return the slices' finding: ``Weakest: brightness 3 to 40, 0.71 instead of 0.90``."""
    if slices.too_weak:
        return "No slice is judged: the classifier is too weak to tell"
    if not slices.weakest:
        return f"None of {slices.judged} slices is shown to be worse than the rest"
    worst = slices.weakest[0]
    more = len(slices.weakest) - 1
    others = f" (and {more} more)" if more else ""
    reason = ", as its classes explain" if worst.explained else ""
    return (
        f"Weakest: {shorten(worst.name, 32)}, {worst.accuracy:.3f} instead of "
        f"{slices.accuracy:.3f}{reason}{others}"
    )


def draw_robustness(figures: RobustnessFigures) -> Figure:
    """Draw how the accuracy falls with each kind of disturbance."""
    figure = new_figure(8.8, 5.2)
    grid = figure.subplots(2, -(-len(figures.kinds) // 2), sharey=True)
    bottom = min(level.low for kind in figures.kinds for level in kind.levels)
    for axes, kind in zip(grid.flat, figures.kinds, strict=False):
        levels = kind.levels
        positions = np.arange(len(levels) + 1)
        values = [figures.accuracy, *(level.accuracy for level in levels)]
        axes.axhline(figures.accuracy, color=MUTED, linewidth=0.8, linestyle=":")
        low, high = ([getattr(part, end) for part in (figures, *levels)] for end in ("low", "high"))
        axes.fill_between(positions, low, high, color=PALETTE[0], alpha=0.18, linewidth=0)
        axes.plot(positions, values, color=PALETTE[0], marker="o", markersize=4, linewidth=1.6)
        for index, value in list(enumerate(values))[1:]:
            # Below the line, where nothing else is, unless that is the floor.
            on_floor = value - bottom < 0.12 * (1 - bottom)
            offset, side = ((6, 5), "bottom") if on_floor else ((0, -7), "top")
            look = {"ha": "center", "va": side, "fontsize": 7.5, "color": INK}
            at = (index, value)
            axes.annotate(f"{value:.2f}", at, offset, textcoords="offset points", **look)
        # The number within the words for a strength: ``10°``.
        names = [
            next(word for word in level.words.split() if re.search(r"\d", word)) for level in levels
        ]
        axes.set_xticks(positions, ["as it\nis", *names], fontsize=7.5)
        axes.set_xlim(-0.25, len(levels) + 0.3)
        axes.set_title(f"{kind.name} ({kind.unit})", fontweight="normal", fontsize=9.5)
        axes.set_ylim(max(0.0, bottom - 0.06), 1.01)
        axes.grid(visible=True, axis="y")
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy")
    _head(
        figure,
        robustness_title(figures),
        f"{figures.images:,} of {figures.of:,} images, the same ones at each strength; bands: "
        "95% intervals",
    )
    return figure


def robustness_title(figures: RobustnessFigures) -> str:
    """Return the finding: ``Noise costs most: from 0.94 to 0.71 (noise of 10% of white)``."""
    worst, name = min(
        ((level, kind.name) for kind in figures.kinds for level in kind.levels),
        key=lambda pair: pair[0].accuracy,
    )
    if worst.change_high >= 0:
        return "None of these disturbances is shown to cost accuracy"
    return (
        f"{name[:1].upper()}{name[1:]} costs most: from {figures.accuracy:.2f} to "
        f"{worst.accuracy:.2f} ({worst.words})"
    )


def draw_map(figures: MapFigures) -> Figure:
    """Draw the map of images, coloured by class, mistakes ringed in red."""
    points, names = figures.points, figures.classes
    if not points:
        return _nothing("There are no images to map")
    figure = new_figure(8.0, 7.2)
    axes = figure.add_subplot()
    positions = np.array([[point.x, point.y] for point in points])
    labels = np.array([point.label for point in points])
    wrong = labels != np.array([point.answer for point in points])
    size = float(np.clip(6000 / len(points), 7, 40))
    present = np.unique(labels)
    for number, label in enumerate(present):
        (repeat, colour), (x, y) = divmod(number, len(PALETTE)), positions[labels == label].T
        mark = _MARKS[repeat % len(_MARKS)]
        axes.scatter(x, y, size, PALETTE[colour], marker=mark, alpha=0.75, linewidths=0)
    if wrong.any():
        x, y = positions[wrong].T
        axes.scatter(x, y, 3.2 * size, linewidths=1.0, facecolors="none", edgecolors=WRONG)
    if len(present) <= _NAMED:
        _name_classes(axes, positions, labels, names)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    axes.margins(0.04)
    how = "t-SNE" if figures.method == "t-sne" else "two principal components"
    _head(
        figure,
        map_title(figures),
        f"{len(points):,} images by what the last layer sees, {how}; near means alike, distances "
        f"between groups mean nothing; ringed red: {int(wrong.sum()):,} mistakes",
    )
    return figure


def map_title(figures: MapFigures) -> str:
    """Return the finding: ``Shirt lies least apart: …``."""
    apart = figures.apart
    if len(apart) < 2:
        return "The images as the network sees them"
    least = apart[0]
    if least.share > 0.995:
        return "Every class lies apart from the others"
    return (
        f"{shorten(least.name, 24)} lies least apart: {least.share:.0%} of its nearest "
        "neighbours are of its class"
    )


def _name_classes(axes: Axes, positions: Doubles, labels: Ints, names: list[str]) -> None:
    """Write each class's name amid most of its images."""
    for label in np.unique(labels):
        members = positions[labels == label]
        # The image with the least distance to the others of its class: a mean may lie elsewhere.
        distances = np.abs(members[:, None] - members[None, :]).sum(axis=(1, 2))
        x, y = members[distances.argmin()]
        axes.text(
            x,
            y,
            shorten(names[label], 18),
            ha="center",
            va="center",
            fontsize=8.5,
            fontweight="bold",
            color=INK,
            bbox={"facecolor": "white", "alpha": 0.78, "linewidth": 0, "boxstyle": "round,pad=0.2"},
        )


def _draw_trait(axes: Axes, name: str, slices: list[Slice], overall: float) -> None:
    axes.axvline(overall, color=MUTED, linewidth=0.9)
    for index, entry in enumerate(slices):
        colour = WRONG if entry.weak else RIGHT
        faint = 0.4 if entry.p is None else 1.0
        axes.hlines(index, entry.low, entry.high, color=colour, linewidth=1.8, alpha=faint)
        axes.plot(entry.accuracy, index, "o", color=colour, markersize=5, alpha=faint)
        if entry.expected is not None:
            axes.plot(entry.expected, index, "x", color=INK, markersize=4, alpha=0.7)
    names = [
        f"{shorten(row.name.removeprefix(f'{name} '), 20)}  ({row.images:,})" for row in slices
    ]
    axes.set_yticks(range(len(slices)), names, fontsize=8)
    axes.set_ylim(len(slices) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(_UNITS.get(name, shorten(name, 30)), fontweight="normal", fontsize=9.5)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=True, axis="x")


_UNITS: Final = {
    "brightness": "brightness (mean, 0 to 255)",
    "contrast": "contrast (deviation of the brightness)",
    "sharpness": "sharpness (fine detail over contrast)",
    "size": "size (side in pixels)",
}


def _shown(slices: list[Slice]) -> list[Slice]:
    """Return slices in their order; of many the worst ones, judged ones first."""
    if len(slices) <= _SLICES:
        return slices
    worst = sorted(slices, key=lambda entry: (entry.p is None, entry.accuracy))[:_SLICES]
    return [entry for entry in slices if entry in worst]


def _head(figure: Figure, title: str, below: str) -> None:
    """Write the finding and, smaller, its data."""
    title_of(figure, title)
    lines = textwrap.wrap(below, int(15 * figure.get_figwidth()))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color=MUTED)


def _nothing(why: str) -> Figure:
    figure = new_figure(6, 1)
    figure.text(0.01, 0.5, why, ha="left", va="center", color=MUTED)
    return figure
