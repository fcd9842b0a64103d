"""Figures of a training and its classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from opsin.report.figures.style import (
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

#: Bars drawn beside a picture, and cells printed in a confusion matrix, at most.
_BARS, _CELLS = 10, 20
_COLOURS = {"right": RIGHT, "wrong": WRONG, "other": MUTED}


@dataclass(frozen=True)
class Answer:
    """One picture with its answer, ready to be drawn.

    Args:
        pixels: ``uint8[H, W, C]``
        name: What the picture is called.
        actual: Its class; ``None`` where nobody knows it.
        probabilities: Probability of each class, in the classes' order.
    """

    pixels: NDArray[np.uint8]
    name: str
    actual: str | None
    probabilities: dict[str, float]

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
        """Whether the answer is the picture's class, or nobody knows better."""
        return self.actual is None or self.actual == self.label

    def bars(self) -> list[tuple[str, float]]:
        """Return the probabilities to draw: all of a few classes, the first of many."""
        if len(self.probabilities) <= _BARS:
            return list(self.probabilities.items())
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:_BARS]

    def kind_of(self, name: str) -> Literal["right", "wrong", "other"]:
        """Tell how to colour a class's bar: the right class, a wrong answer, or another."""
        if name == self.label:
            return "right" if self.right else "wrong"
        return "right" if name == self.actual else "other"

    def caption(self) -> str:
        """Return the answer in words: ``Coat 87% (is Pullover)``."""
        said = f"{shorten(self.label)} {self.confidence:.0%}"
        return said if self.right else f"{said} (is {shorten(str(self.actual))})"


def draw_curves(history: Sequence[dict[str, Any]]) -> Figure:
    """Draw accuracy and loss of training and validation over the epochs."""
    figure = new_figure(8.4, 3.3)
    epochs = [epoch["epoch"] for epoch in history]
    best = max((epoch for epoch in history if epoch["best"]), key=lambda epoch: epoch["epoch"])
    titles = {
        "accuracy": f"Validation accuracy {best['val_accuracy']:.4f} in epoch {best['epoch']}",
        "loss": f"Validation loss {best['val_loss']:.3f} in that epoch",
    }
    for place, (kind, title) in enumerate(titles.items(), start=1):
        axes = figure.add_subplot(1, 2, place)
        for part, label, colour in zip(
            ("train", "val"), ("training", "validation"), PALETTE, strict=False
        ):
            values = [epoch[f"{part}_{kind}"] for epoch in history]
            axes.plot(epochs, values, color=colour, label=label, marker=".", linewidth=1.6)
        axes.axvline(best["epoch"], color=MUTED, linewidth=0.8, linestyle=":")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylabel(kind if kind == "accuracy" else "cross entropy (nats)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
        axes.legend(frameon=False)
    return figure


def draw_confusion(figures: dict[str, Any]) -> Figure:
    """Draw the confusion matrix: a row for each right class, mistakes in red."""
    counts = np.array(figures["confusion"])
    names = [entry["name"] for entry in figures["classes"]]
    size = len(names)
    side = min(9.0, 2.4 + 0.48 * size)
    figure = new_figure(side + 0.9, side)
    axes = figure.add_subplot()
    rows = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / rows
    wrong = np.where(np.eye(size, dtype=bool), 0.0, shares)
    top = max(float(wrong.max()), 1e-9)
    drawn = axes.imshow(wrong, cmap="Reds", vmin=0, vmax=top)
    for place in range(size):
        axes.add_patch(_square(place))
    if size <= _CELLS:
        for row, column in np.ndindex(size, size):
            if counts[row, column]:
                dark = row != column and wrong[row, column] > 0.6 * top
                axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center",
                          fontsize=7, color="white" if dark else INK)  # fmt: skip
    ticks = range(0, size, max(1, size // 40))
    labels = [shorten(names[tick], 14) for tick in ticks]
    axes.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("answer")
    axes.set_ylabel("right class")
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7, label="share of the right class")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if top > 0.05 else 1))
    axes.set_title(confusion_title(figures))
    return figure


def confusion_title(figures: dict[str, Any]) -> str:
    """Return what the confusion matrix says: ``Shirt is taken for Coat most often``."""
    if not figures["confused"]:
        return f"No mistake in {figures['images']:,} pictures"
    worst = figures["confused"][0]
    return (
        f"{shorten(worst['actual'])} is taken for {shorten(worst['predicted'])} most often "
        f"({worst['count']:,} of {worst['of']:,})"
    )


def _square(place: int) -> Any:

    return Rectangle((place - 0.5, place - 0.5), 1, 1, facecolor=EMPTY, edgecolor="none")


def draw_answers(answers: Sequence[Answer], title: str) -> Figure:
    """Draw pictures, each beside the bars of its probabilities; blue is right, red is wrong."""
    columns = min(3, max(1, len(answers)))
    rows = max(1, -(-len(answers) // columns))
    figure = new_figure(3.5 * columns, 1.72 * rows + 0.45)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    if answers:
        grid = figure.add_gridspec(rows, 2 * columns, width_ratios=[1.0, 1.0] * columns)
        for place, answer in enumerate(answers):
            row, column = divmod(place, columns)
            picture = figure.add_subplot(grid[row, 2 * column])
            show_pixels(picture, answer.pixels)
            picture.set_title(answer.caption(), fontsize=7.5, loc="left", fontweight="bold",
                              color=RIGHT if answer.right else WRONG)  # fmt: skip
            picture.set_xlabel(shorten(answer.name, 22), fontsize=6.5, color=MUTED)
            _draw_bars(figure.add_subplot(grid[row, 2 * column + 1]), answer)
    return figure


def draw_answer(answer: Answer, original: NDArray[np.uint8] | None = None) -> Figure:
    """Draw one picture beside the bars of its probabilities.

    Args:
        answer: The answer, with the picture as the network saw it.
        original: The picture as it came, ``uint8[H, W, C]`` of any size.
    """
    pictures = [] if original is None else [(original, shorten(answer.name, 34))]
    pictures.append((answer.pixels, "as the network sees it"))
    figure = new_figure(3.9 + 3.1 * len(pictures), 3.2)
    grid = figure.add_gridspec(1, len(pictures) + 1, width_ratios=[1.0] * len(pictures) + [1.3])
    for place, (pixels, caption) in enumerate(pictures):
        axes = figure.add_subplot(grid[place])
        show_pixels(axes, pixels)
        axes.set_xlabel(caption, color=MUTED)
        if place == 0:
            title = f"{shorten(answer.label, 26)} {answer.confidence:.1%}"
            axes.set_title(title, color=RIGHT if answer.right else WRONG)
    axes = figure.add_subplot(grid[-1])
    _draw_bars(axes, answer)
    axes.tick_params(labelsize=8)
    for place, (_, share) in enumerate(answer.bars()):
        axes.annotate(f"{share:.1%}", (share, place), (3, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axes.set_xlim(0, 1.16)
    axes.set_title("Probability of each class")
    return figure


def _draw_bars(axes: Axes, answer: Answer) -> None:
    names, shares = zip(*answer.bars(), strict=True)
    axes.barh(range(len(names)), shares, color=[_COLOURS[answer.kind_of(name)] for name in names])
    axes.set_yticks(range(len(names)), [shorten(name, 14) for name in names], fontsize=5.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines["bottom"].set_visible(False)
