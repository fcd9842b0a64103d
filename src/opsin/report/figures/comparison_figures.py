"""Figures of several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from opsin.core.artifacts.records import Epoch
from opsin.report.figures.style import PALETTE, name_ends, new_figure, shorten, title_of
from opsin.report.side_by_side import ComparedRun

# Lines of repeated colours.
_LINES: Final = ("-", "--", ":")
_KINDS: Final = (
    ("val_accuracy", "accuracy", "Highest validation accuracy", max),
    ("val_loss", "cross entropy (nats)", "Lowest validation loss", min),
)


@dataclass(frozen=True)
class Curve:
    """The history of one run."""

    letter: str
    model: str
    epochs: Sequence[Epoch]

    def points(self, kind: str) -> tuple[list[int], list[float]]:
        """Epochs and values, only finite ones."""
        known = [epoch for epoch in self.epochs if math.isfinite(getattr(epoch, kind))]
        return [epoch.epoch for epoch in known], [getattr(epoch, kind) for epoch in known]


def colour_of(index: int) -> str:
    """Return the colour of a run in every figure of a comparison."""
    return PALETTE[index % len(PALETTE)]


def draw_together(curves: Sequence[Curve]) -> Figure:
    """Draw validation accuracy and loss of several runs, each named at its line's end."""
    figure = new_figure(9.4, 3.3 + 0.12 * max(0, len(curves) - 6))
    for axes, (kind, unit, finding, best_of) in zip(figure.subplots(1, 2), _KINDS, strict=True):
        ends, values = [], []
        for number, curve in enumerate(curves):
            epochs, series = curve.points(kind)
            if not series:
                continue
            style = _LINES[number // len(PALETTE) % len(_LINES)]
            axes.plot(epochs, series, style, color=colour_of(number), marker=".", linewidth=1.6)
            name = shorten(f"{curve.letter} {curve.model}", 16)
            ends.append((name, colour_of(number), epochs[-1], series[-1]))
            values.append((best_of(series), curve.letter, epochs[series.index(best_of(series))]))
        axes.set(xlabel="epoch", ylabel=unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(visible=True)
        if values:
            value, letter, epoch = best_of(values)
            axes.set_title(f"{finding}: {letter}, {value:.4f} in epoch {epoch}", fontsize=9)
            name_ends(axes, ends)
        else:
            axes.set_title("No run kept a validation history")
    return figure


def draw_accuracies(rows: Sequence[ComparedRun], title: str, part: str) -> Figure:
    """Draw each run's accuracy as a dot on its 95% interval."""
    figure = new_figure(7.6, 1.25 + 0.34 * len(rows))
    axes = figure.add_subplot()
    for index, row in enumerate(rows):
        colour = colour_of(index)
        axes.hlines(index, row.low, row.high, color=colour, linewidth=2.4)
        axes.plot(row.accuracy, index, "o", color=colour, markersize=6)
        at, words = (row.accuracy, index), f"{row.accuracy:.2%}"
        axes.annotate(words, at, (0, 4), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{row.letter} {shorten(row.model)}" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.75)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))  # decimals as the range needs
    axes.grid(axis="x")
    axes.set_xlabel(f"{part} accuracy with its 95% interval")
    title_of(figure, title)
    return figure
