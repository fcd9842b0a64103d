"""Charts of weight norms and linear probes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from opsin.core.arrays import Doubles
from opsin.core.artifacts.records import Epoch
from opsin.report.figures.style import (
    EMPTY,
    INK,
    MUTED,
    PALETTE,
    name_ends,
    new_figure,
    shorten,
    title_of,
)

if TYPE_CHECKING:
    from opsin.inspection.probes import Probe

#: Layers that a chart of norms names: those whose norm changed most.
NAMED: Final = 6
# Inches of a row, rows with a name of their own, and inches of all rows, at most.
_ROW, _NAMED_ROWS, _TALL = 0.2, 110, 24.0

Row = Mapping[str, Any]


def norms_of(history: Sequence[Epoch]) -> tuple[list[int], dict[str, Doubles]]:
    """The epochs that have norms, and the norm of each layer after each of them."""
    epochs = [epoch for epoch in history if epoch.norms]
    names = dict.fromkeys(name for epoch in epochs for name in epoch.norms)
    norms = {
        # A weight that became infinite has no norm in the file.
        name: np.array([epoch.norms.get(name) or math.nan for epoch in epochs], np.float64)
        for name in names
    }
    return [epoch.epoch for epoch in epochs], norms


def norms_title(history: Sequence[Epoch]) -> str:
    """Say which layer's weights changed most from the first recorded epoch to the last."""
    _, norms = norms_of(history)
    name = _most_changed(norms)[0]
    first, last = norms[name][0], norms[name][-1]
    if not (math.isfinite(last / first) and abs(last - first) > 0.02 * first):
        return "The norms of the weights hardly changed after the first epoch"
    verb = "grew" if last > first else "shrank"
    return (
        f"{shorten(name, 30)} {verb} most: the norm of its weights went from {first:.3g} "
        f"to {last:.3g}"
    )


def _most_changed(norms: Mapping[str, Doubles]) -> list[str]:
    """Return the layers by the factor of change of their norm, the largest first."""

    def change(name: str) -> float:
        with np.errstate(all="ignore"):
            factor = float(np.abs(np.log(norms[name][-1] / norms[name][0])))
        return factor if math.isfinite(factor) else -1.0

    return sorted(norms, key=lambda name: -change(name))


def draw_norms(history: Sequence[Epoch]) -> Figure:
    """Draw the norm of each layer's weights over the epochs, as a multiple of the first one's."""
    epochs, norms = norms_of(history)
    figure = new_figure(8.4, 3.8)
    axes = figure.add_subplot()
    named = _most_changed(norms)[:NAMED]
    for name in sorted(norms, key=lambda name: name in named):
        values = norms[name] / norms[name][0]
        colour = PALETTE[named.index(name)] if name in named else MUTED
        axes.plot(epochs, values, color=colour, linewidth=1.8 if name in named else 0.7)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}×"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.01)
    axes.set_title(norms_title(history), wrap=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"L2 norm, as a multiple of that after epoch {epochs[0]}", fontsize=8)
    axes.grid(visible=True)
    ends = []
    for colour, name in zip(PALETTE, named, strict=False):
        first, last = norms[name][0], norms[name][-1]
        text = f"{shorten(name, 22)}  {first:.3g} → {last:.3g}"
        ends.append((text, colour, epochs[-1], last / first))
    lowest, others = name_ends(axes, ends), len(norms) - len(named)
    if others:
        axes.text(1.03, lowest - 0.085, f"grey: {others} other layers", fontsize=7.5,
                  color=MUTED, va="center", transform=axes.transAxes)  # fmt: skip
    return figure


def probes_title(rows: Sequence[Probe]) -> str:
    """Say between which layers the classes come apart."""
    probes, step = rows[:-1], _largest_step(rows)
    if step is not None:
        before, after = probes[step], probes[step + 1]
        return (
            f"Classes come apart most between {shorten(before.layer, 30)} and "
            f"{shorten(after.layer, 30)}: {before.accuracy:.1%} to {after.accuracy:.1%}"
        )
    first, best = probes[0], max(probes, key=lambda row: row.accuracy)
    name = shorten(first.layer, 30)
    if best.low > first.high:
        return (
            f"Classes come apart little by little: {first.accuracy:.1%} from the {name}, "
            f"{best.accuracy:.1%} from {shorten(best.layer, 30)}"
        )
    return f"No layer tells the classes apart clearly better than {name}: {first.accuracy:.1%}"


def _largest_step(rows: Sequence[Probe]) -> int | None:
    """The index before the largest gain; ``None`` if that may be chance."""
    probes = rows[:-1]
    gains = [after.accuracy - before.accuracy for before, after in itertools.pairwise(probes)]
    step = int(np.argmax(gains)) if gains else 0
    return step if gains and probes[step + 1].low > probes[step].high else None


def draw_probes(rows: Sequence[Probe]) -> Figure:
    """Draw the accuracy of a linear probe behind each layer, from the pixels down."""
    probes, model = rows[:-1], rows[-1]
    height = min(_ROW * len(probes), _TALL)
    figure = new_figure(8.4, 1.35 + height)
    axes = figure.add_subplot()
    positions = list(range(len(probes)))
    values = [row.accuracy for row in probes]
    axes.plot(values, positions, color=PALETTE[0], linewidth=1.0, alpha=0.5)
    axes.hlines(positions, [row.low for row in probes], [row.high for row in probes],
                color=PALETTE[0], linewidth=2.2)  # fmt: skip
    axes.plot(values, positions, "o", color=PALETTE[0], markersize=4.5)
    step = _largest_step(rows)
    if step is not None:
        axes.plot(values[step : step + 2], positions[step : step + 2], "o-", color=PALETTE[5],
                  linewidth=2.4, markersize=5)  # fmt: skip
    axes.axvspan(model.low, model.high, color=EMPTY, zorder=0, linewidth=0)
    axes.axvline(model.accuracy, color=INK, linewidth=1.0, linestyle="--")
    axes.annotate(f"the classifier itself {model.accuracy:.1%}", (model.accuracy, -0.9), (-4, 0),
                  textcoords="offset points", ha="right", va="center", fontsize=8)  # fmt: skip
    every = math.ceil(len(probes) / _NAMED_ROWS)
    for index in positions[::every]:
        axes.text(1.01, index, f"{values[index]:.1%}", transform=axes.get_yaxis_transform(),
                  va="center", fontsize=7.5)  # fmt: skip
    axes.set_yticks(positions[::every], [shorten(row.layer, 26) for row in probes[::every]],
                    fontsize=8)  # fmt: skip
    axes.set_ylim(len(probes) - 0.5, -1.4)
    low = min(row.low for row in rows)
    high = max(row.high for row in rows)
    room = 0.02 + 0.05 * (high - low)
    axes.set_xlim(max(0.0, low - room), min(1.0, high + room))
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
    axes.set_xlabel("validation images that a linear probe gets right, with its 95% interval")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    title_of(figure, probes_title(rows))
    return figure
