"""Charts that zoom, show rounded values and can be saved, in the reader's colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from nicegui import events, ui

from opsin.core.artifacts.run_report import Bin
from opsin.studio.ui.kit import icon_action
from opsin.studio.ui.tables import file_name, save_csv
from opsin.studio.words import safe

#: Okabe and Ito's colours, which colour-blind people can tell apart.
PALETTE: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
Row = Sequence[str | float | int | None]
#: What ECharts draws, in its own words.
Options = dict[str, Any]
#: Classes up to which a whole confusion matrix can be read.
MOST_CELLS: Final = 40
#: About how many points of a curve are drawn at most.
MOST_POINTS: Final = 500
# Classes up to which its counts are printed.
_PRINTED: Final = 20
_TEXT: Final = {"color": "var(--muted)", "fontSize": 12}
_LINE: Final = {"lineStyle": {"color": "var(--line)"}}


def chart(
    options: Options,
    label: str,
    *,
    columns: Sequence[str] = (),
    rows: Sequence[Row] | Callable[[], Sequence[Row]] = (),
    zoom: bool = False,
    on_click: Callable[[Any], object] | None = None,
    height: int = 320,
) -> ui.echart:
    """A chart with its values as a file.

    Args:
        options: What ECharts draws; colours, grid, tooltip and fonts are added.
        label: What the chart shows, for those who cannot see it.
        columns: Headings of the values.
        rows: The values, which *Save as CSV* saves, or what returns them at that time.
        zoom: Whether its horizontal axis zooms, by wheel and by dragging.
        on_click: Is called with NiceGUI's event of a point.
        height: Height in pixels.
    """
    usual: Options = {
        "color": list(PALETTE),
        "animation": False,
        "backgroundColor": "transparent",
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 12, "right": 24, "top": 36, "bottom": 12, "containLabel": True},
        "tooltip": {"trigger": "axis", "confine": True, "renderMode": "richText"},
    }
    if zoom:
        usual["dataZoom"] = [{"type": "inside", "xAxisIndex": 0}]
    with ui.element("figure").classes("chart").props('role="group"') as figure:
        figure.props["aria-label"] = safe(label)
        drawn = ui.echart(usual | options, on_point_click=on_click, renderer="svg")
        drawn.style(f"height: {height}px").props('role="img"')
        drawn.props["aria-label"] = safe(label)
        with ui.element("div").classes("chart-tools"):
            icon_action("image", "Save as PNG", lambda: _save_png(drawn, label))
            if rows:
                icon_action("table_view", "Save as CSV", lambda: save_csv(
                    label, columns, rows() if callable(rows) else rows
                ))  # fmt: skip
    return drawn


def _axis(name: str, **more: Any) -> Options:
    """An axis with its quantity, light lines and muted numbers."""
    return {
        "type": "value", "name": name, "nameLocation": "middle", "nameGap": 28,
        "nameTextStyle": _TEXT, "axisLabel": _TEXT, "splitLine": _LINE, "axisLine": _LINE,
        "axisTick": {"show": False},
    } | more  # fmt: skip


def confusion_chart(
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    on_click: Callable[[int, int], object],
) -> ui.echart:
    """A confusion matrix, mistakes in red by their share; a click names class and answer.

    Args:
        confusion: Counts, a row for each right class, a column for each answer.
        classes: Names of the classes.
        on_click: Is called with the numbers of the right class and of the answer.
    """
    names = [safe(name, 24) for name in classes]
    shares = [[number / max(1, sum(row)) for number in row] for row in confusion]
    mistakes = [x for i, row in enumerate(shares) for j, x in enumerate(row) if i != j]
    deepest = max(mistakes, default=0.0) or 1.0
    cells = []
    for i, row in enumerate(confusion):
        for j, number in enumerate(row):
            red = 0 if i == j or not number else 12 + 58 * shares[i][j] / deepest
            colour = (
                "var(--right-soft)" if i == j
                else f"color-mix(in srgb, var(--wrong) {red:.0f}%, var(--panel))"
            )  # fmt: skip
            cells.append({"value": [j, i, number], "itemStyle": {"color": colour}})
    side = len(names) <= _PRINTED
    options = {
        "grid": {"left": 12, "right": 12, "top": 36, "bottom": 28, "containLabel": True},
        "tooltip": {"show": False},
        "xAxis": _axis("Answer", type="category", data=names, position="top", nameGap=12,
                       nameLocation="end",
                       axisLabel=_TEXT | {"interval": 0, "rotate": 45 if len(names) > 4 else 0},
                       splitLine={"show": False}),
        "yAxis": _axis("Class", type="category", data=names, inverse=True, nameLocation="start",
                       nameGap=12, axisLabel=_TEXT | {"interval": 0}, splitLine={"show": False}),
        "series": [{
            "type": "heatmap", "data": cells,
            "label": {"show": side, "color": "var(--ink)", "fontSize": 13},
            "itemStyle": {"borderColor": "var(--paper)", "borderWidth": 2},
        }],
    }  # fmt: skip

    def clicked(event: events.EChartPointClickEventArguments) -> object:
        label, answer = divmod(int(event.data_index), len(names))
        return on_click(label, answer) if 0 <= label < len(names) else None

    return chart(
        options, "Confusion matrix", columns=("Class", *names),
        rows=[(name, *row) for name, row in zip(names, confusion, strict=True)],
        on_click=clicked, height=min(900, 120 + max(22, 52 - len(names)) * len(names)),
    )  # fmt: skip


def reliability_chart(bins: Sequence[Bin]) -> ui.echart:
    """How often answers of each confidence are right; on the diagonal, both agree."""
    known = [entry for entry in bins if entry.count]
    points = [[round(100 * entry.confidence, 1), round(100 * entry.accuracy, 1)] for entry in known]
    most = max(entry.count for entry in known)
    sized = [
        {"value": point, "symbolSize": 8 + 22 * (entry.count / most) ** 0.5}
        for point, entry in zip(points, known, strict=True)
    ]
    options = {
        "tooltip": {"trigger": "item", "confine": True, "renderMode": "richText"},
        "xAxis": _axis("Confidence (%)", min=0, max=100),
        "yAxis": _axis("Right (%)", min=0, max=100, nameGap=36),
        "grid": {"left": 28, "right": 24, "top": 44, "bottom": 32, "containLabel": True},
        "series": [
            {"type": "line", "data": [[0, 0], [100, 100]], "showSymbol": False, "silent": True,
             "lineStyle": {"color": "var(--muted)", "type": "dashed", "width": 1}},
            {"type": "line", "data": sized, "lineStyle": {"color": "var(--right)"},
             "itemStyle": {"color": "var(--right)"}, "symbol": "circle"},
        ],
    }  # fmt: skip
    rows = [
        (f"{entry.low:.2f} to {entry.high:.2f}", round(entry.confidence, 4),
         round(entry.accuracy, 4), entry.count) for entry in known
    ]  # fmt: skip
    label = "Confidence and share of right answers; larger points stand for more answers"
    return chart(options, label, columns=("Confidence", "Mean", "Right", "Answers"), rows=rows)


def curve_series(curves: Mapping[str, Sequence[float | None]]) -> list[Options]:
    """Lines by epoch, the first epoch being 1; of a long training, evenly chosen points."""
    return [
        {"type": "line", "name": safe(name, 24), "showSymbol": len(values) < 3,
         "data": [[i, round(value, 4) if value is not None and math.isfinite(value) else None]
                  for i, value in enumerate(values, start=1)
                  if i % (1 + len(values) // MOST_POINTS) == 0 or i in (1, len(values))],
         "endLabel": {"show": True, "formatter": "{a}", "color": "inherit"},
         "labelLayout": {"moveOverlap": "shiftY"}}
        for name, values in curves.items()
    ]  # fmt: skip


def curves_chart(curves: Mapping[str, Sequence[float | None]], quantity: str) -> ui.echart:
    """Curves by epoch, each with its name at its end; they may grow (`curve_series`)."""

    def rows() -> list[Row]:
        length = max((len(values) for values in curves.values()), default=0)
        return [
            (i + 1, *(values[i] if i < len(values) else None for values in curves.values()))
            for i in range(length)
        ]

    options = {
        "xAxis": _axis("Epoch", minInterval=1, splitLine={"show": False}, min=1),
        "yAxis": _axis(quantity, scale=True, nameGap=40),
        "grid": {"left": 28, "right": 88, "top": 36, "bottom": 32, "containLabel": True},
        "series": curve_series(curves),
    }
    columns = ("Epoch", *(safe(name, 60) for name in curves))
    return chart(options, f"{quantity} by epoch", columns=columns, rows=rows, zoom=True)


async def _save_png(drawn: ui.echart, label: str) -> None:
    """Let the browser draw the SVG on a canvas, and save that."""
    await ui.run_javascript(
        f"""const svg = document.getElementById('{drawn.html_id}').querySelector('svg');
        const box = svg.getBoundingClientRect(), canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [2 * box.width, 2 * box.height];
        const pen = canvas.getContext('2d'), picture = new Image();
        pen.fillStyle = getComputedStyle(document.body).backgroundColor;
        pen.fillRect(0, 0, canvas.width, canvas.height);
        const copy = svg.cloneNode(true), ink = getComputedStyle(document.body).color;
        copy.querySelectorAll('text').forEach((text) => text.setAttribute('fill', ink));
        const code = new XMLSerializer().serializeToString(copy);
        picture.onload = () => {{ pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
          const link = document.createElement('a'); link.href = canvas.toDataURL('image/png');
          link.download = {file_name(label) + ".png"!r}; link.click(); }};
        picture.src = 'data:image/svg+xml;charset=utf-8,' + encodeURIComponent(code);"""
    )
