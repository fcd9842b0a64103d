"""The section that shows the network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opsin.core.format import counted
from opsin.report.figures.network_diagram import network_title, shape_in_words
from opsin.report.figures.receptive_fields import fields_title, image_size, sees
from opsin.report.inside.inspection_page import Section, section
from opsin.report.run_page import themed

if TYPE_CHECKING:
    from opsin.inspection.summary import LayerRow

# Layers from which the table scrolls in a window of its own.
_LONG: Final = 40
# A point, matplotlib's unit, in a page's rem of 16 pixels; the page's width; how much larger than
# on paper a figure is shown where there is room.
_REM: Final = 96 / 72 / 16
_PAGE, _ENLARGED = 65.5, 1.3


@dataclass(frozen=True)
class _Line:
    """A layer as the table shows it, in words, and its two bars, 0 to 100."""

    name: str
    kind: str
    shape: str
    parameters: str
    parameters_bar: float
    multiply_adds: str
    time: str
    time_bar: float
    sees: str


@dataclass(frozen=True)
class _Drawing:
    """A figure for the page: SVG, and how wide it is shown, in rem."""

    svg: str
    width: float


def network_sections(rows: Sequence[LayerRow], drawn: Mapping[str, str]) -> list[Section]:
    """Return the sections about the network as a whole.

    Args:
        rows: The layers in the order of their work.
        drawn: The figures ``network`` and ``receptive-fields`` as SVG, those that there are.
    """
    drawings = {name: _Drawing(themed(svg), _width(svg)) for name, svg in drawn.items()}
    held = sum(row.parameters for row in rows)
    sections = [
        section(
            "network",
            f"{counted(len(rows), 'layer holds', 'layers hold')} {held:,} parameters",
            "network.html",
            finding=network_title(rows),
            lines=_lines(rows),
            totals=_totals(rows),
            timed=any(row.share is not None for row in rows),
            drawing=drawings.get("network"),
            long=len(rows) > _LONG,
        )
    ]
    if "receptive-fields" in drawings:
        sections.append(
            section(
                "receptive-fields",
                "What does each layer see?",
                "receptive_fields.html",
                finding=fields_title(rows, image_size(rows)),
                drawing=drawings["receptive-fields"],
            )
        )
    return sections


def _width(svg: str) -> float:
    """Return how wide to show a figure, in rem: large enough to read, on phones beyond the edge."""
    found = re.search(r'<svg[^>]*? width="([0-9.]+)pt"', svg)
    own = float(found[1]) * _REM if found else _PAGE
    return round(max(own, min(_ENLARGED * own, _PAGE)), 2)


def _lines(rows: Sequence[LayerRow]) -> list[_Line]:
    """Put the layers into words; bars are compared with the longest."""
    size = image_size(rows)
    largest = max(row.parameters for row in rows) or 1
    slowest = max(row.share or 0.0 for row in rows) or 1.0
    return [
        _Line(
            name=row.name,
            kind=row.kind,
            shape=shape_in_words(row.shape),
            parameters=f"{row.parameters:,}" if row.parameters else "",
            parameters_bar=100 * row.parameters / largest,
            multiply_adds=f"{row.multiply_adds:,}" if row.multiply_adds else "",
            time="" if row.share is None else f"{row.share:.1%}",
            time_bar=100 * (row.share or 0.0) / slowest,
            sees=sees(row, size),
        )
        for row in rows
    ]


def _totals(rows: Sequence[LayerRow]) -> dict[str, str]:
    """Return the sums below the table."""
    held = sum(row.parameters for row in rows)
    trainable = sum(row.trainable for row in rows)
    seconds = sum(row.seconds or 0.0 for row in rows)
    return {
        "parameters": f"{held:,}",
        "trainable": f"{trainable:,} trainable, {held - trainable:,} not",
        "multiply_adds": f"{sum(row.multiply_adds for row in rows):,}",
        "time": f"{1e3 * seconds:.3g} ms",
    }
