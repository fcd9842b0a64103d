"""The section that shows the network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from opsin.core.format import counted
from opsin.report.figures.network_figures import fields_title, image_size, network_title, sees
from opsin.report.run_page import themed
from opsin.report.templates import Section, section

if TYPE_CHECKING:
    from opsin.inspection.summary import LayerRow

# Most layers without a scrolling table.
_LONG: Final = 40
# A point, matplotlib's unit, in a page's rem of 16 pixels; the page's width; the enlargement of a
# figure if there is room.
_REM: Final = 96 / 72 / 16
_PAGE, _ENLARGED = 65.5, 1.3


class _Drawing(NamedTuple):
    """A figure for the page: SVG, and its width in rem."""

    svg: str
    width: float


def network_sections(rows: Sequence[LayerRow], drawn: Mapping[str, str]) -> list[Section]:
    """Return the sections about the network as a whole."""
    drawings = {
        name: _Drawing(themed(drawn[name]), _width(drawn[name]))
        for name in ("network", "receptive-fields")
        if name in drawn
    }
    size = image_size(rows)
    held, trainable = (sum(row.parameters for row in rows), sum(row.trainable for row in rows))
    sections = [
        section(
            "network",
            f"{counted(len(rows), 'layer holds', 'layers hold')} {held:,} parameters",
            "network.html",
            finding=network_title(rows),
            rows=rows,
            sees=[sees(row, size) for row in rows],
            # Bars are compared with the longest.
            largest=max(row.parameters for row in rows) or 1,
            slowest=max(row.share or 0.0 for row in rows) or 1.0,
            trainable=f"{trainable:,} trainable, {held - trainable:,} not",
            time=f"{1e3 * sum(row.seconds or 0.0 for row in rows):.3g} ms",
            timed=any(row.share is not None for row in rows),
            drawing=drawings.get("network"),
            long=len(rows) > _LONG,
        )
    ]
    if "receptive-fields" in drawings:
        sections.append(
            section("receptive-fields", "What does each layer see?", "receptive_fields.html",
                    finding=fields_title(rows, size), drawing=drawings["receptive-fields"])
        )  # fmt: skip
    return sections


def _width(svg: str) -> float:
    """The width of a figure in rem: large enough to read, on phones beyond the edge."""
    match = re.search(r'<svg[^>]*? width="([0-9.]+)pt"', svg)
    width = float(match[1]) * _REM if match else _PAGE
    return round(max(width, min(_ENLARGED * width, _PAGE)), 2)
