"""How good a classifier is, in sentences, and a field to choose one by that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nicegui import ui

from opsin.core.artifacts.run_predictions import PredictedPart
from opsin.core.artifacts.run_report import Accuracy, PartFigures, Report
from opsin.core.format import count, counted, right_count, span
from opsin.report.terminal import leaks_in_words
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui.layout import address
from opsin.studio.words import of_photographs, safe

_JUDGED_BY: Final[dict[PredictedPart, str]] = {
    "out_of_fold": "Each photograph was judged by a network that had not seen it.",
    "test": "The photographs were kept apart for this test; it had never seen them.",
    "val": "This is optimistic: the best settings were chosen by these same photographs.",
}


def right_of(figures: Accuracy | RunRow) -> str:
    """How many of the photographs got the right answer."""
    return f"Right for {right_count(figures)}"


def in_short(figures: Accuracy | RunRow) -> str:
    """The verdict in a few words, with its interval; ``""`` until it is known."""
    if figures.accuracy is None or not figures.images:
        return ""
    known = figures.low is not None and figures.high is not None
    interval = f" ({span(figures.low or 0.0, figures.high or 0.0)})" if known else ""
    optimistic = ", optimistic" if isinstance(figures, RunRow) and figures.split == "val" else ""
    return f"{right_of(figures)}{interval}{optimistic}"


def judged_by(report: Report) -> str:
    """Which photographs the verdict rests on, and whether they make it look too good."""
    if report.training.elsewhere:
        return "It was trained elsewhere. Whether it learnt from these photographs is not known."
    return _JUDGED_BY[report.split]


def weakest(figures: PartFigures) -> tuple[int, str] | None:
    """The class with the smallest share of right answers, and what it is taken for.

    ``None`` where every answer is right.
    """
    rows = [(row[i] / sum(row), i) for i, row in enumerate(figures.confusion) if sum(row) > row[i]]
    if not rows:
        return None
    _, label = min(rows)
    row, names = figures.confusion[label], [entry.name for entry in figures.classes]
    other = max((i for i in range(len(row)) if i != label), key=lambda i: row[i])
    return label, (
        f"Weakest: {names[label]}, {count(row[label])} of {count(sum(row))} right, "
        f"{counted(row[other], 'time')} taken for {names[other]}"
    )


def limits(report: Report) -> list[str]:
    """What limits the verdict, where something does."""
    figures, leaks, lines = report.judged, report.leaks, list[str]()
    if cause := report.training.diverged:
        lines.append(f"The training broke off: {cause}. This is the best state before that.")
    lines += [of_photographs(report.rests_on)] * bool(report.rests_on)
    if report.split == "test" and report.looks > 1:
        lines.append(
            f"These test photographs have judged {count(report.looks)} classifiers. The best of "
            "several figures is a little too good."
        )
    if figures.few_groups:
        groups = counted(figures.groups or 0, "group")
        lines.append(f"The photographs come in only {groups}, so the range is rough.")
    if leaks.exact or leaks.near:
        text = of_photographs(leaks_in_words(leaks))
        lines.append(f"{text[:1].upper()}{text[1:]}.")
        if without := figures.without_leaks:
            lines.append(f"Without them: {right_of(without).lower()}.")
    if (corrected := figures.corrected) and corrected.labels:
        lines.append(
            f"{count(corrected.labels)} of {count(corrected.images)} labels were corrected. With "
            f"the earlier labels: {right_of(corrected.earlier).lower()}."
        )
    if corrected and corrected.left_out:
        left_out = counted(corrected.left_out, "photograph was", "photographs were")
        lines.append(f"{left_out} left out by you, and not tested.")
    return lines


def classifier_select(
    project: Project, row: RunRow, rows: Sequence[RunRow], page: str, **query: str
) -> None:
    """A field with some of a project's classifiers, which leads to the same page of another."""
    names = {
        item.id: " · ".join(filter(None, (safe(project.title_of(item), 60), in_short(item))))
        for item in rows
    }
    ui.select(
        names,
        value=row.id,
        label="Classifier",
        with_input=len(names) > 12,
        on_change=lambda e: ui.navigate.to(address(project, page, **query | {"run": e.value})),
    ).style("width: 300px; max-width: 100%")
