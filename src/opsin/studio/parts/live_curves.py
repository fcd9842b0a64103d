"""Curves of a training: loss, accuracy, rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from nicegui import ui

from opsin.core.artifacts.records import Epoch
from opsin.studio.parts import terms

CSS: Final = """
:root { --train: #0072b2; --val: #d98f00; }
@media (prefers-color-scheme: dark) { :root { --train: #56b4e9; --val: #e69f00; } }
.op-curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr));
  gap: .4rem 1.2rem; margin: 0 0 1rem; }
.op-curves > div { min-width: 0; }
.op-curves h2 { margin: .2rem 0 0; font-size: .95rem; }
.op-chart { height: 13rem; width: 100%; }
.op-chart svg text { fill: var(--muted); stroke: none; font-family: system-ui, sans-serif; }
"""

#: What Apache ECharts draws, as its own documentation has it.
EChartOptions = dict[str, Any]

#: Points of a curve; of a longer training evenly chosen ones are drawn.
POINTS: Final = 500
# Ends of two lines nearer than this share of the height would have their names overlap; these then
# stand this many pixels up and down.
_CLOSE, _APART = 0.1, 7
_TRAIN: Final = ("training", "var(--train)")
_VAL: Final = ("validation", "var(--val)")
_MUTED: Final = "var(--muted)"
_LINE: Final = "var(--line)"
#: The charts: quantity, heading, and its lines: field of an epoch, name and colour.
_CHARTS: Final = (
    ("loss", "Loss (cross entropy, nats)", (("train_loss", *_TRAIN), ("val_loss", *_VAL))),
    ("accuracy", "Accuracy", (("train_accuracy", *_TRAIN), ("val_accuracy", *_VAL))),
    ("learning_rate", "Learning rate", (("learning_rate", "rate", "var(--train)"),)),
)


class LiveCurves:
    """Three charts that grow with a training: loss, accuracy and learning rate by epoch.

    Args:
        history: The epochs so far: lines of ``history.jsonl``.
        epochs: How many were asked for: so far the axis goes.
    """

    def __init__(self, history: Sequence[Epoch], epochs: int | None = None) -> None:
        self._charts: dict[str, ui.echart] = {}
        self._shown: list[Epoch] | None = None
        with ui.element("div").classes("op-curves"):
            for name, heading, _ in _CHARTS:
                with ui.element("div"):
                    with ui.element("h2"):
                        terms.word(heading)
                    self._charts[name] = _chart(chart_options(name, [], epochs), heading)
        self.show(history, epochs)

    def show(self, history: Sequence[Epoch], epochs: int | None = None) -> None:
        """Draw these epochs from now on; nothing happens where they are the same."""
        events = list(history)
        if events == self._shown:
            return
        self._shown = events
        for name, chart in self._charts.items():
            options = chart_options(name, events, epochs)
            chart.options.clear()
            chart.options.update(options)
            chart._props["aria-label"] = in_words(name, events)
            chart.update()


def rate_curve(rates: Sequence[Sequence[float]], epochs: int | None) -> ui.echart:
    """Show the learning rate that a training would have.

    Args:
        rates: Pairs of progress, 0 to 1, and rate.
        epochs: Length of the training: the axis counts them.
    """
    whole = epochs or 1
    points = [[progress * whole, rate] for progress, rate in rates]
    options = _options([_Curve("rate", "var(--train)", points, named=False)], whole, dots=False)
    most = max((rate for _, rate in points), default=0.0)
    return _chart(options, f"Learning rate over {whole} epochs, {most:.2g} at most")


def _chart(options: EChartOptions, label: str) -> ui.echart:
    chart = ui.echart(options, renderer="svg").classes("op-chart").props('role="img"')
    chart._props["aria-label"] = label
    return chart


def chart_options(quantity: str, history: Sequence[Epoch], epochs: int | None) -> EChartOptions:
    """Return what ECharts draws of a history.

    Args:
        quantity: ``loss``, ``accuracy`` or ``learning_rate``.
        history: The epochs so far.
        epochs: How many were asked for.

    """
    fields = next(lines for name, _, lines in _CHARTS if name == quantity)
    lines = [
        _Curve(name, colour, points_of(history, field), named=len(fields) > 1)
        for field, name, colour in fields
    ]
    last = max((epoch.epoch for epoch in history), default=1)
    return _options(_apart(lines), max(last, epochs or 1), dots=len(history) <= 30)


def in_words(quantity: str, history: Sequence[Epoch]) -> str:
    """Say what a chart shows, for those who cannot see it."""
    _, heading, fields = next(chart for chart in _CHARTS if chart[0] == quantity)
    said = []
    for field, name, _ in fields:
        points = points_of(history, field)
        if points:
            said.append(f"{name} {points[-1][1]:.4g} in epoch {points[-1][0]:g}")
    return ", ".join([heading, *said]) if said else f"{heading}, no epoch yet"


def points_of(history: Sequence[Epoch], field: str) -> list[list[float]]:
    """Return pairs of epoch and value, at most `POINTS`; what is no number is left out."""
    points = [
        [epoch.epoch, value] for epoch in history if math.isfinite(value := getattr(epoch, field))
    ]
    if len(points) <= POINTS:
        return points
    places = {round(step * (len(points) - 1) / (POINTS - 1)) for step in range(POINTS)}
    return [points[place] for place in sorted(places)]


@dataclass(frozen=True)
class _Curve:
    """A line: its points, and its name at its end, moved up or down by some pixels."""

    name: str
    colour: str
    points: Sequence[Sequence[float]]
    named: bool
    moved: int = 0

    def options(self, *, dots: bool) -> EChartOptions:
        # The name stands at the line's end rather than in a legend.
        end = {"show": self.named, "formatter": "{a}", "fontSize": 12}
        if self.moved:
            end["offset"] = [0, self.moved]
        return {
            "type": "line",
            "name": self.name,
            "data": self.points,
            "symbol": "circle",
            "symbolSize": 5,
            "showSymbol": dots,
            "lineStyle": {"color": self.colour, "width": 2},
            "itemStyle": {"color": self.colour},
            "emphasis": {"disabled": True},
            "endLabel": end,
        }


def _apart(lines: Sequence[_Curve]) -> list[_Curve]:
    """Move the names of two lines apart that end at nearly the same height."""
    ends = [line.points[-1][1] for line in lines if line.points]
    values = [value for line in lines for _, value in line.points]
    if len(ends) == 2 and abs(ends[0] - ends[1]) < _CLOSE * ((max(values) - min(values)) or 1):
        up = ends.index(max(ends))
        return [
            replace(line, moved=-_APART if place == up else _APART)
            for place, line in enumerate(lines)
        ]
    return list(lines)


def _options(lines: Sequence[_Curve], last: float, *, dots: bool) -> EChartOptions:
    """Return the frame of a chart: no legend, no box, a light grid."""
    named = any(line.named for line in lines)
    text = {"color": _MUTED, "fontSize": 12}
    return {
        "animation": False,
        "textStyle": {"color": _MUTED},
        "grid": {"left": 8, "right": 76 if named else 20, "top": 14, "bottom": 22,
                 "containLabel": True},
        "tooltip": {"trigger": "axis", "renderMode": "richText", "confine": True},
        "xAxis": {
            "type": "value", "min": 0, "max": last, "minInterval": 1, "name": "epoch",
            "nameLocation": "middle", "nameGap": 24, "nameTextStyle": text, "axisLabel": text,
            "splitLine": {"show": False}, "axisLine": {"lineStyle": {"color": _LINE}},
            "axisTick": {"show": False},
        },
        "yAxis": {
            "type": "value", "scale": named, "axisLabel": text,
            "splitLine": {"lineStyle": {"color": _LINE}},
        },
        "series": [line.options(dots=dots) for line in lines],
    }  # fmt: skip
