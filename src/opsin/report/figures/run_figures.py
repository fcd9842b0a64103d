"""Figures of a training and its classifier: curves, answers, confusion, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from opsin.core.arrays import Pixels
from opsin.core.artifacts.records import Epoch
from opsin.core.artifacts.run_report import PartFigures
from opsin.core.format import counted
from opsin.report.figures.style import (
    DPI,
    EMPTY,
    INK,
    MUTED,
    PALETTE,
    RIGHT,
    WRONG,
    new_figure,
    shorten,
    show_pixels,
)

#: Bars drawn beside an image, and cells printed in a confusion matrix, at most.
_BARS, _CELLS = 10, 20
# Inches of an image with its bars and captions, of its longest side, and of the title.
_CARD, _SIDE, _HEAD = (3.3, 1.66), 1.25, 0.52
# Classes whose ROC and precision-recall curves are named; the others are drawn in grey.
_NAMED = 3
_COLOURS = {"right": RIGHT, "wrong": WRONG, "other": MUTED}


@dataclass(frozen=True)
class ShownAnswer:
    """One image with its answer, ready to be drawn."""

    pixels: Pixels  # uint8[H, W, C]
    name: str
    actual: str | None  # its class; `None` if it is unknown
    probabilities: dict[str, float]  # probability of each class, in the classes' order
    refused: str = ""

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def confidence(self) -> float:
        """The probability of that class."""
        return self.probabilities[self.label]

    @property
    def right(self) -> bool:
        """Whether the answer is the image's class, or that is unknown."""
        return self.actual is None or self.actual == self.label

    def bars(self) -> list[tuple[str, float]]:
        """The probabilities to draw: all of a few classes, the first of many."""
        if len(self.probabilities) <= _BARS:
            return list(self.probabilities.items())
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:_BARS]

    def kind_of(self, name: str) -> Literal["right", "wrong", "other"]:
        """The colour of a class's bar: the right class, a wrong answer, or another."""
        if name == self.label:
            return "right" if self.right else "wrong"
        return "right" if name == self.actual else "other"

    def caption(self) -> str:
        """The answer in words: ``Coat 87% (is Pullover)``."""
        answer = f"{shorten(self.label)} {self.confidence:.0%}"
        return answer if self.right else f"{answer} (is {shorten(str(self.actual))})"


def draw_curves(history: Sequence[Epoch], unit: str = "epochs") -> Figure:
    """Draw accuracy and loss of training and validation over the epochs, or over other steps."""
    figure = new_figure(8.4, 3.3)
    epochs = [epoch.epoch for epoch in history]
    best = max((epoch for epoch in history if epoch.best), key=lambda epoch: epoch.epoch)
    accuracy = f"Validation accuracy {best.val_accuracy:.4f}, {best.epoch:,} {unit}"
    loss = f"Validation loss {best.val_loss:.3f} there"
    for axes, (kind, quantity, title) in zip(
        figure.subplots(1, 2),
        (("accuracy", "accuracy", accuracy), ("loss", "cross entropy (nats)", loss)),
        strict=True,
    ):
        for part, label, colour in zip(
            ("train", "val"), ("training", "validation"), PALETTE, strict=False
        ):
            values = [getattr(epoch, f"{part}_{kind}") for epoch in history]
            axes.plot(epochs, values, color=colour, label=label, marker=".", linewidth=1.6)
        axes.axvline(best.epoch, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set(title=title, xlabel=unit, ylabel=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
        axes.legend(frameon=False)
    return figure


def draw_confusion(figures: PartFigures) -> Figure:
    """Draw the confusion matrix: a row for each right class, mistakes in red."""
    counts = np.array(figures.confusion)
    names = [entry.name for entry in figures.classes]
    size = len(names)
    side = min(9.0, 2.4 + 0.48 * size)
    figure = new_figure(side + 0.9, side)
    axes = figure.add_subplot()
    rows = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / rows
    wrong = np.where(np.eye(size, dtype=bool), 0.0, shares)
    top = max(float(wrong.max()), 1e-9)
    drawn = axes.imshow(wrong, cmap="Reds", vmin=0, vmax=top)
    for index in range(size):
        axes.add_patch(Rectangle((index - 0.5, index - 0.5), 1, 1, facecolor=EMPTY))
    if size <= _CELLS:
        for row, column in np.argwhere(counts):
            colour = "white" if row != column and wrong[row, column] > 0.6 * top else INK
            words = f"{counts[row, column]:,}"
            axes.text(column, row, words, ha="center", va="center", fontsize=7, color=colour)
    ticks = range(0, size, max(1, size // 40))
    labels = [shorten(names[tick], 14) for tick in ticks]
    axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, labels)
    axes.set(xlabel="answer", ylabel="right class", title=confusion_title(figures))
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7, label="share of the right class")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if top > 0.05 else 1))
    return figure


def confusion_title(figures: PartFigures) -> str:
    """Return the matrix's finding: ``Shirt is taken for Coat most often``."""
    if not figures.confused:
        return f"No mistake in {counted(figures.images, 'image')}"
    worst = figures.confused[0]
    return (
        f"{shorten(worst.actual)} is taken for {shorten(worst.predicted)} most often "
        f"({worst.count:,} of {worst.of:,})"
    )


def draw_answers(answers: Sequence[ShownAnswer], title: str) -> Figure:
    """Draw images, each beside the bars of its probabilities; blue is right, red is wrong."""
    columns = min(3, max(1, len(answers)))
    rows = max(1, -(-len(answers) // columns))
    width, height = _CARD[0] * columns, _CARD[1] * rows + _HEAD
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.text(0.06, 0.12, title, fontsize=10.5, fontweight="bold", va="top")
    for index, answer in enumerate(answers):
        row, column = divmod(index, columns)
        _draw_card(axes, answer, 0.06 + column * _CARD[0], _HEAD + row * _CARD[1])
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.axis("off")
    return figure


def _draw_card(axes: Axes, answer: ShownAnswer, left: float, top: float) -> None:
    """Draw one image, its caption and its bars, from a corner in inches."""
    high, wide = answer.pixels.shape[:2]
    scale = _SIDE / max(high, wide)
    colour, caption = RIGHT if answer.right else WRONG, answer.caption()
    axes.text(left, top, caption, fontsize=7.5, fontweight="bold", va="bottom", color=colour)
    corners = (left, left + scale * wide, top + 0.04 + scale * high, top + 0.04)
    show_pixels(axes, answer.pixels, extent=corners)
    name = shorten(answer.name, 22)
    axes.text(left, top + _SIDE + 0.07, name, fontsize=6.5, color=MUTED, va="top")
    bars = answer.bars()
    step = min(0.16, _SIDE / len(bars))
    begin, middle = left + _SIDE + 0.95, top + 0.04 + 0.5 * step
    heights = [middle + number * step for number in range(len(bars))]
    colours = [_COLOURS[answer.kind_of(name)] for name, _ in bars]
    axes.barh(heights, [0.95 * share for _, share in bars], 0.75 * step, begin, color=colours)
    for y, (name, _) in zip(heights, bars, strict=True):
        axes.text(begin - 0.05, y, shorten(name, 14), fontsize=5.5, ha="right", va="center")


def draw_answer(answer: ShownAnswer, original: Pixels | None = None) -> Figure:
    """Draw one image beside the bars of its probabilities."""
    images = [] if original is None else [(original, shorten(answer.name, 34))]
    images.append((answer.pixels, "as the network sees it"))
    figure = new_figure(3.9 + 3.1 * len(images), 3.2)
    grid = figure.add_gridspec(1, len(images) + 1, width_ratios=[1.0] * len(images) + [1.3])
    for index, (pixels, caption) in enumerate(images):
        axes = figure.add_subplot(grid[index])
        show_pixels(axes, pixels)
        axes.set_xlabel(caption, color=MUTED)
        if index == 0:
            title = answer.refused or f"{shorten(answer.label, 26)} {answer.confidence:.1%}"
            colour = RIGHT if answer.right else WRONG
            axes.set_title(title, color=MUTED if answer.refused else colour)
    axes = figure.add_subplot(grid[-1])
    names, shares = zip(*answer.bars(), strict=True)
    colours = [_COLOURS[answer.kind_of(name)] for name in names]
    bars = axes.barh(range(len(names)), shares, color=colours)
    axes.bar_label(bars, fmt="{:.1%}", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [shorten(name, 14) for name in names])
    axes.tick_params(labelsize=8, length=0)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.16), xticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.set_title("Probability of each class")
    return figure


def draw_reliability(figures: PartFigures) -> Figure:
    """Draw confidence against accuracy, and the number of answers at each confidence."""
    bins = figures.reliability
    figure = new_figure(8.4, 3.6)
    axes, counts = figure.subplots(1, 2)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=":")
    axes.annotate(
        "perfect", (0.2, 0.2), (4, -9), textcoords="offset points", fontsize=7.5, color=MUTED
    )
    middle = [entry.confidence for entry in bins]
    right = [entry.accuracy for entry in bins]
    axes.vlines(middle, middle, right, color=WRONG, linewidth=1.2)
    sizes = np.array([entry.count for entry in bins], float)
    axes.scatter(middle, right, s=14 + 60 * np.sqrt(sizes / sizes.max()), color=RIGHT, zorder=3)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), title=reliability_title(figures))
    axes.set(xlabel="confidence of the answers", ylabel="share that is right")
    axes.grid(visible=True)
    lows = [entry.low for entry in bins]
    bars = counts.bar(lows, sizes, 1 / 15, align="edge", color=RIGHT, ec="white", lw=0.5)
    counts.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=6)
    title = f"{bins[-1].count / sizes.sum():.0%} of answers are surer than {bins[-1].low:.0%}"
    counts.set(xlim=(0, 1), xlabel="confidence of the answers", ylabel="images", title=title)
    counts.yaxis.set_major_formatter("{x:,.0f}")
    for axis in (axes.xaxis, axes.yaxis, counts.xaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    return figure


def reliability_title(figures: PartFigures) -> str:
    """Return the diagram's finding: ``Confidence is off by 1.1 points``."""
    points = 100 * (figures.calibration_error or 0.0)
    bins = figures.reliability
    lean = sum(entry.count * (entry.confidence - entry.accuracy) for entry in bins)
    total = sum(entry.count for entry in bins)
    way = ""
    if points >= 1 and abs(lean) / total > 0.5 * points / 100:
        way = ", too sure" if lean > 0 else ", not sure enough"
    return f"Confidence is off by {points:.1f} points{way}"


def draw_curves_of_classes(figures: PartFigures) -> Figure:
    """Draw the ROC and the precision-recall curve of each class, the hardest classes named."""
    entries = [entry for entry in figures.curves.classes if entry.roc]
    hardest = sorted(entries, key=lambda entry: entry.average_precision or 0.0)[:_NAMED]
    figure = new_figure(8.4, 3.8)
    curves = figures.curves
    left, right = figure.subplots(1, 2)
    title = f"Mean area under the ROC curves {curves.macro_auroc:.4f}"
    left.set(xlabel="false positive rate", ylabel="true positive rate", title=title)
    title = f"Mean average precision {curves.macro_average_precision:.4f}"
    right.set(xlabel="recall", ylabel="precision", title=title)
    for axes, kind, area, words in (
        (left, "roc", "auroc", "area, the hardest classes"),
        (right, "precision_recall", "average_precision", "average precision"),
    ):
        for entry in entries:
            if entry not in hardest:
                axes.plot(*getattr(entry, kind), color=MUTED, linewidth=0.8, alpha=0.6)
        for entry, colour in zip(hardest, PALETTE, strict=False):
            label = f"{shorten(entry.name)} {getattr(entry, area):.3f}"
            axes.plot(*getattr(entry, kind), color=colour, linewidth=1.7, label=label)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(visible=True)
        legend = axes.legend(
            frameon=False, fontsize=7.5, title=words, loc="lower center", title_fontsize=7.5
        )
        legend.get_title().set_color(MUTED)
    return figure
