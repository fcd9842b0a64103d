"""Charts that zoom, show rounded values and can be saved, in the reader's colours."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, Final

from nicegui import ui

from opsin.studio.ui.kit import icon_action
from opsin.studio.words import safe

#: Okabe and Ito's colours, which colour-blind people can tell apart.
PALETTE: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
Row = Sequence[str | float | int | None]


def chart(
    options: dict[str, Any],
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
    usual: dict[str, Any] = {
        "color": list(PALETTE),
        "animation": False,
        "backgroundColor": "transparent",
        "textStyle": {"fontFamily": "inherit"},
        "grid": {"left": 12, "right": 24, "top": 36, "bottom": 12, "containLabel": True},
        "tooltip": {"trigger": "axis", "confine": True},
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

                def save_csv() -> None:
                    content = _csv(columns, rows() if callable(rows) else rows)
                    ui.download.content(content, f"{_file_name(label)}.csv", "text/csv")

                icon_action("table_view", "Save as CSV", save_csv)
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
        const copy = svg.cloneNode(true), ink = getComputedStyle(document.body).color;
        copy.querySelectorAll('text').forEach((text) => text.setAttribute('fill', ink));
        const code = new XMLSerializer().serializeToString(copy);
        picture.onload = () => {{ pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
          const link = document.createElement('a'); link.href = canvas.toDataURL('image/png');
          link.download = {_file_name(label) + ".png"!r}; link.click(); }};
        picture.src = 'data:image/svg+xml;charset=utf-8,' + encodeURIComponent(code);"""
    )


def _file_name(label: str) -> str:
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in label).split()
    return "-".join(words[:8]).lower() or "chart"


def _csv(columns: Sequence[str], rows: Sequence[Row]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([columns, *rows])
    return file.getvalue().encode()
