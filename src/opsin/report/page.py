"""The report as one self-contained HTML page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from opsin.report.figures.run import Answer, confusion_title, draw_curves
from opsin.report.figures.style import INK, styled
from opsin.report.templates import environment
from opsin.report.terminal import leaks_in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Classes whose whole matrix is shown; of more, only the pairs most often mistaken.
_MATRIX: Final = 25


def render(
    report: dict[str, Any],
    recipe: dict[str, Any],
    history: Sequence[dict[str, Any]],
    *,
    name: str,
    answers: Sequence[Answer],
    mistakes: Sequence[Answer],
) -> str:
    """Return the page.

    Args:
        report: What ``report.json`` holds.
        recipe: What ``recipe.json`` holds.
        history: The lines of ``history.jsonl``.
        name: Of the run.
        answers: Typical answers to show.
        mistakes: The most confident mistakes.
    """
    # Runs of earlier versions lack these.
    training = {"diverged": None, "stepped_back": False, **report["training"]}
    report = {"parent": None, "reasons": {}, **report, "training": training}
    figures = report["figures"][report["split"]]
    with styled():
        curves = inline_svg(draw_curves(history))
    page: str = (
        environment()
        .get_template("page.html")
        .render(
            name=name,
            report=report,
            figures=figures,
            recipe=recipe,
            history=history,
            verdict=verdict(report),
            leaks=leaks_in_words(report["leaks"]["exact"], report["leaks"]["near"]),
            confusion_title=confusion_title(figures),
            matrix=_matrix(figures) if len(figures["classes"]) <= _MATRIX else None,
            curves=curves,
            answers=answers,
            mistakes=mistakes,
        )
    )
    return page


def verdict(report: dict[str, Any]) -> str:
    """Say in one sentence how good the classifier is, and on what grounds."""
    figures = report["figures"][report["split"]]
    span = f"95% interval {figures['low']:.1%} to {figures['high']:.1%}"
    if report["split"] == "test":
        return (
            f"Right for {figures['accuracy']:.1%} of {figures['images']:,} test pictures that it "
            f"had never seen ({span})."
        )
    return (
        f"Right for {figures['accuracy']:.1%} of {figures['images']:,} validation pictures "
        f"({span}). This is optimistic: the best epoch was chosen on them, and there are no test "
        "pictures."
    )


def inline_svg(figure: Figure) -> str:
    """Return a figure as SVG that takes text colour and background from the page around it."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", svg, count=1)
    return svg.replace(INK, "currentColor")


def _matrix(figures: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the confusion matrix's cells: count, and how deep its red is."""
    counts = np.array(figures["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0.0)
    deepest = max(float(shares.max()), 1e-9)
    return [
        [
            {
                "count": int(counts[row, column]),
                "right": row == column,
                "depth": round(float(shares[row, column]) / deepest, 3),
            }
            for column in range(counts.shape[1])
        ]
        for row in range(counts.shape[0])
    ]
