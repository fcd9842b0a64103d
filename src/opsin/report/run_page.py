"""The report as one self-contained HTML page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from opsin.core.arrays import Pixels
from opsin.core.artifacts.records import Epoch
from opsin.core.artifacts.run_predictions import PART_WORDS
from opsin.core.artifacts.run_report import PartFigures, Report, SuspectedLabel
from opsin.core.errors import RunError
from opsin.core.format import count, in_groups, right_count
from opsin.core.recipe import RecipeModel, without_folders
from opsin.evaluation.mistakes import ConfusionCell
from opsin.report.figures.failure_figures import map_title, robustness_title, slices_title
from opsin.report.figures.run_figures import ShownAnswer, confusion_title, reliability_title
from opsin.report.figures.style import INK
from opsin.report.templates import fill
from opsin.report.terminal import (
    corrected_in_words,
    labels_grounds,
    labels_title,
    leaks_in_words,
    ood_in_words,
    over_classes,
)

#: Most classes with a whole matrix; with more, only the most confused pairs are shown.
_MATRIX: Final = 25


@dataclass(frozen=True)
class PageImages:
    """Images of the page: answers drawn at random by a seed, mistakes, and more."""

    drawn: Sequence[ShownAnswer]
    mistakes: Sequence[ShownAnswer]
    unsure: Sequence[ShownAnswer]
    cells: Sequence[tuple[ConfusionCell, Sequence[ShownAnswer]]]
    # A label that is probably wrong, its image, and a typical one of the suggested class.
    suspects: Sequence[tuple[SuspectedLabel, Pixels, Pixels | None]]
    seed: int = 0


def render(
    report: Report,
    recipe: RecipeModel,
    history: Sequence[Epoch],
    *,
    name: str,
    images: PageImages,
    drawn: Mapping[str, str],
) -> str:
    """Return the page."""
    figures, failures, deep = report.judged, report.failures, report.deep
    if failures is None:
        raise RunError("report.json has no failures", "Make it again: opsin report RUN")
    shown = [(cell, answers) for cell, answers in images.cells if answers]
    leaks, corrected = report.leaks, figures.corrected
    return fill(
        "page.html",
        name=name,
        report=report,
        figures=figures,
        recipe=without_folders(recipe.model_dump(mode="json")),
        history=history,
        verdict=verdict(report),
        over_classes=over_classes(figures),
        corrected=corrected_in_words(corrected, report.split) if corrected else "",
        ood=ood_in_words(report.ood) if report.ood else "",
        leaks=leaks_in_words(leaks) if leaks.exact or leaks.near else "",
        titles={
            "confusion": confusion_title(figures),
            "calibration": reliability_title(figures),
            "labels": labels_title(failures),
            "slices": slices_title(failures.slices),
            "robustness": robustness_title(deep.robustness) if deep else "",
            "map": map_title(deep.map) if deep else "",
        },
        grounds=labels_grounds(failures.suspected, failures.labels),
        matrix=_matrix(figures, shown) if len(figures.classes) <= _MATRIX else None,
        mistaken=_mistaken_for(figures),
        images=images,
        cells=shown,
        drawn={name: themed(svg) for name, svg in drawn.items()},
    )


def verdict(report: Report) -> str:
    """Say in one sentence how good the classifier is, and by which images."""
    figures = report.judged
    span = f"95% interval {figures.low:.1%} to {figures.high:.1%}"
    if figures.groups is not None:
        span += f"; images{in_groups(figures.groups, few=figures.few_groups)}"
    right = f"Right for {figures.accuracy:.1%} of {count(figures.images)}"
    if report.training.elsewhere:
        return f"{right} {PART_WORDS[report.split]} images ({span})."
    if report.split == "test":
        return f"{right} test images that it had never seen ({span})."
    if report.split == "out_of_fold":
        right = f"Right for {right_count(figures)} images"
        span = f"{figures.accuracy:.1%}; {span}"
        return f"{right}, each judged by a head that had not seen it ({span})."
    return (
        f"{right} validation images ({span}). This is optimistic: choices were made on them, and "
        "there are no test images."
    )


def themed(svg: str) -> str:
    """Return an SVG that takes text colour and width from the page around it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for side in ("width", "height"):
        svg = re.sub(rf'(<svg[^>]*?) {side}="[^"]*pt"', r"\1", svg, count=1)
    return svg.replace("<svg", '<svg aria-hidden="true"', 1).replace(INK, "currentColor")


class _MatrixCell(NamedTuple):
    """A cell of the confusion matrix on the page."""

    images: int
    share: float  # of the right class
    right: bool
    depth: float  # how deep its red is, 0 to 1
    shown: bool  # the page has some of its images


def _matrix(
    figures: PartFigures, shown: Sequence[tuple[ConfusionCell, object]]
) -> list[list[_MatrixCell]]:
    """Return the confusion matrix, a row for each right class."""
    counts = np.array(figures.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mistakes = np.where(np.eye(len(counts), dtype=bool), 0.0, shares)
    deepest = max(float(mistakes.max()), 1e-9)
    known = {(cell.actual, cell.predicted) for cell, _ in shown}

    def cell(row: int, column: int) -> _MatrixCell:
        depth = round(float(mistakes[row, column]) / deepest, 3)
        images, share = int(counts[row, column]), float(shares[row, column])
        return _MatrixCell(images, share, row == column, depth, (row, column) in known)

    return [[cell(row, column) for column in range(len(counts))] for row in range(len(counts))]


def _mistaken_for(figures: PartFigures, most: int = 2) -> list[list[tuple[str, int]]]:
    """Return each class's wrong answers with their counts, the commonest first."""
    names = [entry.name for entry in figures.classes]
    mistakes = []
    for index, row in enumerate(figures.confusion):
        others = [(names[i], n) for i, n in enumerate(row) if n and i != index]
        mistakes.append(sorted(others, key=lambda pair: -pair[1])[:most])
    return mistakes
