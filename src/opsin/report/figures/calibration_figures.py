"""Figures of calibration, ROC and precision-recall."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from opsin.core.artifacts.run_report import PartFigures
from opsin.report.figures.style import MUTED, PALETTE, RIGHT, WRONG, new_figure, shorten

#: Classes whose curves are named; the others are drawn in grey.
_NAMED = 3


def draw_reliability(figures: PartFigures) -> Figure:
    """Draw confidence against accuracy, and the number of answers at each confidence."""
    bins = figures.reliability
    figure = new_figure(8.4, 3.6)
    grid = figure.add_gridspec(1, 2, width_ratios=[1.0, 1.0])
    axes = figure.add_subplot(grid[0])
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=":")
    axes.annotate("perfect", (0.2, 0.2), (4, -9), textcoords="offset points", fontsize=7.5,
                  color=MUTED)  # fmt: skip
    middle = [entry.confidence for entry in bins]
    right = [entry.accuracy for entry in bins]
    for confidence, accuracy in zip(middle, right, strict=True):
        axes.plot([confidence] * 2, [confidence, accuracy], color=WRONG, linewidth=1.2)
    sizes = np.array([entry.count for entry in bins], float)
    axes.scatter(middle, right, s=14 + 60 * np.sqrt(sizes / sizes.max()), color=RIGHT, zorder=3)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_xlabel("confidence of the answers")
    axes.set_ylabel("share that is right")
    axes.set_title(reliability_title(figures))
    axes.grid(visible=True)
    counts = figure.add_subplot(grid[1])
    counts.bar([entry.low for entry in bins], sizes, width=1 / 15, align="edge", color=RIGHT,
               edgecolor="white", linewidth=0.5)  # fmt: skip
    for entry in bins:
        counts.annotate(f"{entry.count:,}", ((entry.low + entry.high) / 2, entry.count),
                        (0, 2), textcoords="offset points", ha="center", fontsize=6)  # fmt: skip
    counts.set_xlim(0, 1)
    counts.set_xlabel("confidence of the answers")
    counts.set_ylabel("images")
    counts.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    counts.set_title(f"{bins[-1].count / sizes.sum():.0%} of answers are surer than "
                     f"{bins[-1].low:.0%}")  # fmt: skip
    for panel in (axes, counts):
        panel.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
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
    kinds = {
        "roc": ("false positive rate", "true positive rate", "auroc"),
        "precision_recall": ("recall", "precision", "average_precision"),
    }
    for index, (kind, (across, up, area)) in enumerate(kinds.items(), start=1):
        axes = figure.add_subplot(1, 2, index)
        for entry in entries:
            if entry not in hardest:
                axes.plot(*getattr(entry, kind), color=MUTED, linewidth=0.8, alpha=0.6)
        for entry, colour in zip(hardest, PALETTE, strict=False):
            axes.plot(*getattr(entry, kind), color=colour, linewidth=1.7,
                      label=f"{shorten(entry.name)} {getattr(entry, area):.3f}")  # fmt: skip
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(visible=True)
        axes.set_title(curves_title(figures, kind))
        _legend(axes, "area, the hardest classes" if kind == "roc" else "average precision")
    return figure


def curves_title(figures: PartFigures, kind: str) -> str:
    """Return the curves' mean area or precision."""
    if kind == "roc":
        return f"Mean area under the ROC curves {figures.curves.macro_auroc:.4f}"
    return f"Mean average precision {figures.curves.macro_average_precision:.4f}"


def _legend(axes: Axes, title: str) -> None:
    legend = axes.legend(frameon=False, fontsize=7.5, title=title, loc="lower center",
                        title_fontsize=7.5)  # fmt: skip
    legend.get_title().set_color(MUTED)
