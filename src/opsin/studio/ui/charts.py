"""Charts that zoom, show rounded values and can be saved, in the reader's colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from nicegui import events, ui

from opsin.core.artifacts.records import Epoch
from opsin.core.artifacts.run_report import Bin
from opsin.studio.ui.kit import icon_action
from opsin.studio.ui.tables import file_name, save_csv
from opsin.studio.words import safe

#: What ECharts draws, in its own words.
Options = dict[str, Any]
#: The charts by epochs: the curves of each, and their fields in an epoch's record.
CURVES: Final = {
    "Loss": {"Training": "train_loss", "Validation": "val_loss"},
    "Accuracy": {"Training": "train_accuracy", "Validation": "val_accuracy"},
}
#: Classes up to which a whole confusion matrix can be read.
MOST_CELLS: Final = 40
# Classes up to which the counts of a confusion matrix are printed.
_PRINTED: Final = 20
_TEXT: Final = {"color": "var(--muted)", "fontSize": 12}
_LINE: Final = {"lineStyle": {"color": "var(--line)"}}
_AXIS: Final[Options] = {
    "type": "value", "nameLocation": "middle", "nameGap": 28, "nameTextStyle": _TEXT,
    "axisLabel": _TEXT, "splitLine": _LINE, "axisLine": _LINE, "axisTick": {"show": False},
}  # fmt: skip
_TOOLTIP: Final = {"trigger": "axis", "confine": True, "renderMode": "richText"}
_USUAL: Final[Options] = {
    # Okabe and Ito's colours, which colour-blind people can tell apart.
    "color": ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"],
    "animation": False, "backgroundColor": "transparent", "textStyle": {"fontFamily": "inherit"},
    "tooltip": _TOOLTIP,
    "grid": {"left": 28, "right": 80, "top": 40, "bottom": 32, "containLabel": True},
}  # fmt: skip


def _chart(
    options: Options,
    label: str,
    values: Iterable[Sequence[object]],
    *,
    height: int = 320,
    on_click: Callable[[events.EChartPointClickEventArguments], object] | None = None,
) -> ui.echart:
    """A chart that saves as PNG, and the values, under their headings, as CSV.

    The label is for those who cannot see it.
    """
    with ui.element("figure").classes("chart"):
        drawn = ui.echart(_USUAL | options, on_point_click=on_click, renderer="svg")
        drawn.style(f"height: {height}px").props('role="img"')
        drawn.props["aria-label"] = safe(label)
        with ui.element("div").classes("chart-tools"):
            icon_action("image", "Save as PNG", lambda: _save_png(drawn, label))
            icon_action("table_view", "Save as CSV", lambda: save_csv(label, values))
    return drawn


def _axis(name: str, **more: Any) -> Options:
    return _AXIS | {"name": name} | more


def confusion_chart(
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    on_click: Callable[[int, int], object],
) -> ui.echart:
    """A confusion matrix, mistakes in red by their share.

    ``confusion`` has a row for each right class, a column for each answer; a click names both by
    their numbers.
    """
    names, counts = [safe(name, 24) for name in classes], np.array(confusion)
    mistakes = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    np.fill_diagonal(mistakes, 0)
    reds = np.where(mistakes > 0, 12 + 58 * mistakes / (mistakes.max() or 1), 0)

    def cell(i: int, j: int) -> Options:
        red = f"color-mix(in srgb, var(--wrong) {reds[i, j]:.0f}%, var(--panel))"
        style = {"color": "var(--right-soft)" if i == j else red}
        return {"value": [j, i, confusion[i][j]], "itemStyle": style}

    cells = [cell(i, j) for i, j in np.ndindex(counts.shape)]
    every = {"type": "category", "data": names, "nameGap": 12, "splitLine": {"show": False}}
    labels = _TEXT | {"interval": 0}
    above = {"position": "top", "nameLocation": "end"} | every
    printed = {"show": len(names) <= _PRINTED, "color": "var(--ink)", "fontSize": 13}
    gaps = {"borderColor": "var(--paper)", "borderWidth": 2}
    options = {
        "tooltip": {"show": False},
        "xAxis": _axis("Answer", axisLabel=labels | {"rotate": 45 * (len(names) > 4)}, **above),
        "yAxis": _axis("Class", inverse=True, nameLocation="start", axisLabel=labels, **every),
        "series": [{"type": "heatmap", "data": cells, "label": printed, "itemStyle": gaps}],
    }

    def clicked(event: events.EChartPointClickEventArguments) -> object:
        label, answer = divmod(int(event.data_index), len(names))
        return on_click(label, answer) if 0 <= label < len(names) else None

    rows = [[name, *row] for name, row in zip(names, confusion, strict=True)]
    height = min(900, 120 + max(22, 52 - len(names)) * len(names))
    rows.insert(0, ["Class", *names])
    return _chart(options, "Confusion matrix", rows, height=height, on_click=clicked)


def reliability_chart(bins: Sequence[Bin]) -> ui.echart:
    """How often answers of each confidence are right; on the diagonal, both agree."""
    most = max(entry.count for entry in bins)
    points = [
        {
            "value": [round(100 * entry.confidence, 1), round(100 * entry.accuracy, 1)],
            "symbolSize": 8 + 22 * (entry.count / most) ** 0.5,
        }
        for entry in bins
    ]
    blue, grey = {"color": "var(--right)"}, {"color": "var(--muted)", "type": "dashed", "width": 1}
    agree = {"data": [[0, 0], [100, 100]], "showSymbol": False, "silent": True, "lineStyle": grey}
    found = {"data": points, "lineStyle": blue, "itemStyle": blue, "symbol": "circle"}
    options = {
        "tooltip": _TOOLTIP | {"trigger": "item"},
        "xAxis": _axis("Confidence (%)", min=0, max=100),
        "yAxis": _axis("Right (%)", min=0, max=100, nameGap=36),
        "series": [{"type": "line"} | agree, {"type": "line"} | found],
    }
    rows: list[Sequence[object]] = [("Confidence", "Mean", "Right", "Answers")]
    for entry in bins:
        ends = f"{entry.low:.2f} to {entry.high:.2f}"
        rows.append((ends, round(entry.confidence, 4), round(entry.accuracy, 4), entry.count))
    label = "Confidence and share of right answers; larger points stand for more answers"
    return _chart(options, label, rows)


def curves_chart(quantity: str, epochs: Sequence[Epoch]) -> ui.echart:
    """Curves by epoch, the first being 1, each with its name at its end."""
    fields = CURVES[quantity].items()
    curves = {name: [getattr(epoch, field) for epoch in epochs] for name, field in fields}
    series = [
        {
            "type": "line",
            "name": safe(name, 24),
            "showSymbol": len(values) < 3,
            "sampling": "lttb",
            "data": [
                [i, None if value is None else round(value, 4)]
                for i, value in enumerate(values, start=1)
            ],
            "endLabel": {"show": True, "formatter": "{a}", "color": "inherit"},
            "labelLayout": {"moveOverlap": "shiftY"},
        }
        for name, values in curves.items()
    ]
    options = {
        "xAxis": _axis("Epoch", minInterval=1, splitLine={"show": False}, min=1),
        "yAxis": _axis(quantity, scale=True, nameGap=40),
        "dataZoom": [{"type": "inside", "xAxisIndex": 0}],
        "series": series,
    }
    rows: list[Sequence[object]] = [("Epoch", *curves)]
    rows += [(i, *row) for i, row in enumerate(zip(*curves.values(), strict=True), 1)]
    return _chart(options, f"{quantity} by epoch", rows)


def map_chart(
    points: Sequence[tuple[float, float, str]], on_choose: Callable[[list[int]], object]
) -> ui.echart:
    """Photographs as points with their classes (``""`` for none), chosen by drawing around them."""
    classes = ["", *sorted({class_ for _, _, class_ in points} - {""})]
    places = [[i for i, point in enumerate(points) if point[2] == class_] for class_ in classes]
    hidden = {"type": "value", "show": False, "scale": True}
    options = {
        "grid": {"left": 8, "right": 8, "top": 40, "bottom": 32},
        "xAxis": hidden,
        "yAxis": hidden,
        "tooltip": {"show": False},
        "legend": {"top": 0, "left": 0, "right": 96, "itemGap": 24, "textStyle": _TEXT},
        "toolbox": {
            "left": 0,
            "bottom": 0,
            "feature": {"brush": {"type": ["polygon", "rect", "clear"]}},
            "iconStyle": {"borderColor": "var(--ink)"},
        },
        "brush": {"throttleType": "debounce", "throttleDelay": 300},
        "series": [
            {
                "type": "scatter",
                "name": safe(class_, 24) or "Not sorted yet",
                "symbolSize": 9,
                "data": [points[i][:2] for i in own],
                "itemStyle": {} if class_ else {"color": "var(--muted)"},
            }
            for class_, own in zip(classes, places, strict=True)
        ],
    }

    def chosen(event: events.GenericEventArguments) -> object:
        found = zip(places, event.args, strict=False)
        return on_choose([own[at] for own, several in found for at in several if at < len(own)])

    rows = [("Class", "x", "y"), *((class_, x, y) for x, y, class_ in points)]
    drawn = _chart(options, "Map of the photographs: like ones are close", rows, height=480)
    drawn.on(
        "chart:brushselected",
        chosen,
        js_handler="(event) => event.batch[0]?.areas.length && "
        "emit(event.batch[0].selected.map((each) => each.dataIndex))",
    )
    # The lasso is at hand at once.
    lasso = {"type": "takeGlobalCursor", "key": "brush", "brushOption": {"brushType": "polygon"}}
    ui.timer(1, lambda: drawn.run_chart_method("dispatchAction", lasso), once=True)
    return drawn


async def _save_png(drawn: ui.echart, label: str) -> None:
    """Let the browser draw the SVG on a canvas, and save that."""
    await ui.run_javascript(
        f"""const svg = document.getElementById('{drawn.html_id}').querySelector('svg');
        const box = svg.getBoundingClientRect(), canvas = document.createElement('canvas');
        [canvas.width, canvas.height] = [2 * box.width, 2 * box.height];
        const pen = canvas.getContext('2d'), picture = new Image();
        pen.fillStyle = getComputedStyle(document.body).backgroundColor;
        pen.fillRect(0, 0, canvas.width, canvas.height);
        const copy = svg.cloneNode(true), parts = copy.querySelectorAll('*');
        svg.querySelectorAll('*').forEach((part, at) => {{ // a picture has no style sheet
          const {{ fill, stroke, fontFamily }} = getComputedStyle(part);
          Object.assign(parts[at].style, {{ fill, stroke, fontFamily }}); }});
        const code = new XMLSerializer().serializeToString(copy);
        picture.onload = () => {{ pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
          const link = document.createElement('a'); link.href = canvas.toDataURL('image/png');
          link.download = {file_name(label) + ".png"!r}; link.click(); }};
        picture.src = 'data:image/svg+xml;charset=utf-8,' + encodeURIComponent(code);"""
    )
