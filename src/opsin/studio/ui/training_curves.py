"""Curves of a training by epochs: loss, accuracy and learning rate, growing with it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Final

from nicegui import ui

from opsin.core.artifacts.records import Epoch
from opsin.studio.ui.charts import PALETTE, Row, chart
from opsin.studio.ui.kit import heading

#: Most points of a curve; of a longer training, evenly chosen ones are drawn.
POINTS: Final = 500
_TRAIN, _VAL = ("training", PALETTE[0]), ("validation", PALETTE[1])
# Each chart: heading, and its lines: field of an epoch, name and colour.
_CHARTS: Final = (
    ("Loss", (("train_loss", *_TRAIN), ("val_loss", *_VAL))),
    ("Accuracy", (("train_accuracy", *_TRAIN), ("val_accuracy", *_VAL))),
    ("Learning rate", (("learning_rate", "rate", PALETTE[0]),)),
)


class TrainingCurves:
    """Three charts of a training's epochs; `show` draws those that are new.

    Args:
        history: The epochs so far.
        epochs: How many there will be: the length of the axis.
    """

    def __init__(self, history: Sequence[Epoch], epochs: int | None = None) -> None:
        self._history: list[Epoch] = list(history)
        self._charts: list[ui.echart] = []
        with ui.element("div").classes("columns"):
            for title, lines in _CHARTS:
                with ui.element("div"):
                    heading(title, 3)
                    fields = [field for field, _, _ in lines]
                    drawn = chart(
                        curve_options(lines, self._history, epochs),
                        f"{title} by epoch",
                        columns=["epoch", *(field.replace("_", " ") for field in fields)],
                        rows=functools.partial(self._rows, fields),
                        zoom=True,
                        height=240,
                    )
                    self._charts.append(drawn)

    def show(self, history: Sequence[Epoch], epochs: int | None = None) -> None:
        """Draw these epochs; what was zoomed stays so."""
        if list(history) == self._history:
            return
        self._history = list(history)
        for (_, lines), drawn in zip(_CHARTS, self._charts, strict=True):
            options = curve_options(lines, self._history, epochs)
            drawn.options["series"] = options["series"]
            drawn.options["xAxis"] = options["xAxis"]
            drawn.update()

    def _rows(self, fields: Sequence[str]) -> list[Row]:
        return [
            [epoch.epoch, *(_finite(getattr(epoch, field)) for field in fields)]
            for epoch in self._history
        ]


def curve_options(
    lines: Sequence[tuple[str, str, str]], history: Sequence[Epoch], epochs: int | None
) -> Any:
    """What ECharts draws of some fields of a history: the name stands at the line's end."""
    last = max([epoch.epoch for epoch in history] + [epochs or 1])
    series = [
        {
            "type": "line", "name": name, "data": points_of(history, field),
            "symbolSize": 5, "showSymbol": len(history) <= 30, "emphasis": {"disabled": True},
            "lineStyle": {"color": colour, "width": 2}, "itemStyle": {"color": colour},
            "endLabel": {"show": len(lines) > 1, "formatter": "{a}", "fontSize": 12},
            "labelLayout": {"moveOverlap": "shiftY"},
        }
        for field, name, colour in lines
    ]  # fmt: skip
    return {
        "grid": {"left": 8, "right": 84 if len(lines) > 1 else 24, "top": 16, "bottom": 24,
                 "containLabel": True},
        "xAxis": {"type": "value", "min": 0, "max": last, "minInterval": 1, "name": "epoch",
                  "nameLocation": "middle", "nameGap": 24, "splitLine": {"show": False}},
        "yAxis": {"type": "value", "scale": len(lines) > 1},
        "series": series,
    }  # fmt: skip


def points_of(history: Sequence[Epoch], field: str) -> list[list[float]]:
    """Pairs of epoch and rounded value, at most `POINTS`, without those that are not finite."""
    points = [
        [float(epoch.epoch), float(f"{value:.4g}")]
        for epoch in history
        if math.isfinite(value := getattr(epoch, field))
    ]
    if len(points) <= POINTS:
        return points
    last = len(points) - 1
    return [points[i] for i in sorted({round(n * last / (POINTS - 1)) for n in range(POINTS)})]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
