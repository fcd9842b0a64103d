"""A comparison of runs as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opsin.report.figures.comparison_figures import Disagreement
from opsin.report.run_page import themed
from opsin.report.side_by_side import BOLD, Comparison, columns_of
from opsin.report.templates import fill


@dataclass(frozen=True)
class Group:
    """Images that two runs answered differently, in one of three ways."""

    title: str  # which way: `Only B is right`
    count: int
    images: Sequence[Disagreement]  # the first of them, where they can still be shown
    others: Sequence[str]  # the first of the others: name, class and both answers in a line


def render_comparison(
    comparison: Comparison,
    drawn: dict[str, str],
    groups: Sequence[Sequence[Group]],
    word: str,
) -> str:
    """Return the page."""
    columns = columns_of(comparison.runs)
    return fill(
        "compare.html",
        found=comparison,
        headings=[
            column.heading.replace("- ", "").replace(" /s", " a second") for column in columns
        ],
        table=list(zip(*(column.cells for column in columns), strict=True)),
        drawn={name: themed(svg) for name, svg in drawn.items()},
        groups=groups,
        word=word,
        bold=BOLD if any(row.best for row in comparison.runs) else None,
    )
