"""The figure of a machine's image rates."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from opsin.core.format import speed
from opsin.report.figures.style import INK, MUTED, PALETTE, new_figure, shorten
from opsin.report.image_rate import ImageRate

_COLOURS: Final = dict(zip(("cpu", "cuda", "mps"), PALETTE, strict=False))


def draw_rates(rates: Sequence[ImageRate], title: str, machine: str) -> Figure:
    """Draw images a second: a panel for each kind of work, a dot for each measurement.

    The scale is logarithmic and one for all panels, so that what holds the others up is seen at
    once; a line leads from the slowest repeat to the fastest.

    Args:
        rates: The measurements.
        title: The finding.
        machine: What was measured, in a line.
    """
    works = {rate.work: [r for r in rates if r.work == rate.work] for rate in rates}
    rows = {work: list(dict.fromkeys(map(_row, own))) for work, own in works.items()}
    lines = sum(map(len, rows.values()))
    figure = new_figure(7.6, 1.35 + 0.33 * lines + 0.45 * len(works))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    ratios = [len(names) + 0.4 for names in rows.values()]
    panels = figure.subplots(len(works), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    for axes, (work, own) in zip(panels, works.items(), strict=True):
        _draw_work(axes, own, rows[work])
        axes.set_title(work.capitalize(), fontsize=9)
    bottom = panels[-1]
    bottom.set_xlabel("images a second (logarithmic)")
    figure.supxlabel("\n".join(textwrap.wrap(machine, 125)), x=0.01, ha="left", fontsize=7)
    low = min(rate.low for rate in rates)
    high = max(rate.high for rate in rates)
    bottom.set_xlim(low / 2, high * 2)  # room for the figures above the dots
    bottom.xaxis.set_major_formatter(FuncFormatter(lambda value, _: speed(value)))
    bottom.xaxis.set_minor_formatter(NullFormatter())
    _name_devices(figure, [rate.device for rate in rates])
    return figure


def _row(rate: ImageRate) -> str:
    """Return what stands beside a line of dots, the same for every device."""
    to = " to" if rate.work == "reading" else ""
    return f"{shorten(rate.name)}{to} {rate.size}, {rate.how}"


def _draw_work(axes: Axes, rates: Sequence[ImageRate], rows: Sequence[str]) -> None:
    axes.set_xscale("log")
    for rate in rates:
        place, middle = rows.index(_row(rate)), rate.median
        colour = _COLOURS.get(rate.device, INK)
        axes.hlines(place, rate.low, rate.high, color=colour, linewidth=2.4)
        axes.plot(middle, place, "o", color=colour, markersize=6)
        axes.annotate(speed(middle), (middle, place), (0, 4), ha="center", va="bottom",
                      textcoords="offset points", fontsize=8, color=INK)  # fmt: skip
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", which="major")


def _name_devices(figure: Figure, devices: Sequence[str]) -> None:
    """Name the colours, where there is more than one."""
    names = list(dict.fromkeys(devices))
    if len(names) == 1:
        return
    for place, name in enumerate(names):
        figure.text(0.99 - 0.07 * (len(names) - 1 - place), 0.985, name, ha="right", va="top",
                    color=_COLOURS.get(name, MUTED), fontsize=9, fontweight="bold")  # fmt: skip
