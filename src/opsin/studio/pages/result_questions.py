"""The questions below a verdict: one unfolds under another."""

from __future__ import annotations

import asyncio
from typing import Final

from nicegui import ui

from opsin.core.artifacts.run_report import PartFigures, RecordedRecipe, SuspectedLabel
from opsin.core.format import clock, count, counted, file_size
from opsin.core.recipe import without_folders
from opsin.evaluation.metric_table import known_metrics
from opsin.report.terminal import labels_grounds, over_classes
from opsin.studio.jobs.training_form import values_of
from opsin.studio.pages.result_images import ResultImages
from opsin.studio.pages.verdicts import share, span
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui import kit, layout
from opsin.studio.ui.charts import (
    CURVES,
    MOST_CELLS,
    confusion_chart,
    curves_chart,
    reliability_chart,
)
from opsin.studio.ui.tables import table
from opsin.studio.words import safe

# Pairs of confused classes, and suspected labels, that are shown.
_PAIRS: Final = 12
_SUSPECTS: Final = 12


class Questions:
    """The questions of one window; those with photographs wait until these are open."""

    def __init__(self, project: Project, row: RunRow, images: ResultImages) -> None:
        self._project, self._row, self._images = project, row, images
        self._report = images.report
        questions = {
            "Where does it fail?": self._where,
            "Can you trust its confidence?": self._trust,
            "Which labels may be wrong?": self._labels,
            "What does it look at?": self._looks,
            "How was it trained?": self._trained,
        }
        folds = {title: kit.question(title, build) for title, build in questions.items()}

        def count_suspects() -> None:
            title, number = "Which labels may be wrong?", len(images.suspects)
            if not folds[title].is_deleted:
                folds[title].set_text(f"{title} {count(number)}" if number else title)

        images.listeners.append(count_suspects)

    def _where(self) -> None:
        figures, failures = self._report.judged, self._report.failures
        names = [entry.name for entry in figures.classes]
        with ui.element("div").classes("columns"):
            with ui.element("div").classes("stack"):
                if len(names) <= MOST_CELLS:
                    confusion_chart(figures.confusion, names, self._show_cell)
                    kit.note("Click a number to see its photographs.")
                with ui.element("div").classes("line"):  # for the keyboard, and many classes
                    for pair in figures.confused[:_PAIRS]:
                        at = names.index(pair.actual), names.index(pair.predicted)
                        text = (
                            f"{safe(pair.actual, 24)} → {safe(pair.predicted, 24)} {pair.count:,}"
                        )
                        kit.action(text, lambda at=at: self._show_cell(*at)).props("dense")
            self._cell = ui.element("div").classes("stack").props('role="status"')
        if failures and failures.slices.traits:
            weak = [entry for entry in failures.slices.weakest if entry.weak]
            text = "No kind of photograph is clearly worse than the others."
            if reason := failures.slices.too_weak:
                text = f"There are too few right answers to tell kinds apart: {reason}."
            elif weak:
                why = ", as its classes explain" if weak[0].explained else ""
                text = f"Worst kind: {weak[0].name}, {share(weak[0].accuracy)} right{why}."
            ui.label(safe(text, 400)).classes("prose")
        _by_class(figures)

    async def _show_cell(self, label: int, answer: int) -> None:
        images = self._images
        names = [safe(name, 40) for name in images.names]

        async def show() -> None:
            await images.wait()
            given = images.answers
            places = given.surest((given.labels == label) & (given.answers == answer))
            kit.note(f"{counted(len(places), 'photograph')}, the most confident answers first.")
            if places:
                images.gallery("Photographs of this cell", places)

        self._cell.clear()
        with self._cell:
            kit.heading(f"{names[label]}, recognised" if label == answer
                        else f"{names[label]}, taken for {names[answer]}")  # fmt: skip
            await kit.guarded(show)

    def _trust(self) -> None:
        figures, ood = self._report.judged, self._report.ood
        bins = [entry for entry in figures.reliability if entry.count]
        lines = [] if bins else ["There are too few answers to tell."]
        if bins:
            last, error = bins[-1], 100 * (figures.calibration_error or 0.0)
            lines.append(
                f"Of the {counted(last.count, 'answer')} with a confidence over {share(last.low)}, "
                f"{share(last.accuracy)} were right. On average, confidence and accuracy differ by "
                f"{error:.0f} points."
            )
        if refused := figures.refused:
            lines.append(
                f'It answered "none of these" to {count(refused.count)} of your '
                f"{count(refused.images)} photographs ({100 * refused.share:.1f}%)."
            )
        if ood:
            lines.append(
                "Photographs of a class that it has never seen look stranger to it than yours in "
                f"{share(ood.near)} of all pairs; noise, text and drawings in {share(ood.far)}. "
                "Half would be chance."
            )
        for line in lines:
            ui.label(line).classes("prose")
        if bins:
            reliability_chart(bins)

    async def _labels(self) -> None:
        failures, images = self._report.failures, self._images
        await images.wait()
        grounds = labels_grounds(
            failures.suspected if failures else 0, failures.labels if failures else None
        )
        if images.suspects:
            kit.note("The classifier disagrees with these labels. Nothing changes unless you say "
                     "so.")  # fmt: skip
        ui.label(safe(grounds, 600)).classes("prose")
        if images.fixed:
            kit.note(images.fixed)
        self._suspects()
        images.listeners.append(self._suspects.refresh)

    @ui.refreshable_method
    def _suspects(self) -> None:
        images = self._images
        with ui.element("div").classes("columns"):
            for suspect in images.suspects[:_SUSPECTS]:
                self._suspect(suspect)
        if more := len(images.suspects[_SUSPECTS:]):
            kit.note(f"{count(more)} more follow as you settle these.")
        if not images.suspects and images.now:
            kit.note("All of them are settled.")

    def _suspect(self, suspect: SuspectedLabel) -> None:
        images, other, label = self._images, suspect.suggested, safe(suspect.label, 30)
        with ui.element("article").classes("card stack"):
            with ui.element("div").classes("line no-wrap items-start"):
                images.picture(suspect.row, f"Labelled {label}")
                if suspect.example is not None:
                    images.picture(suspect.example, f"A typical {safe(other, 30)}, to compare")
            with ui.element("div").classes("line") as line:
                if other in images.opened.classes:
                    kit.action(
                        f"It is {safe(other, 30)}", lambda: images.relabel(suspect.row, other)
                    )
                kit.action(f"{label} is right", lambda: images.confirm(suspect))
                kit.action("Leave out", lambda: images.relabel(suspect.row, None), kind="quiet")
            line.set_visibility(not images.fixed)

    async def _looks(self) -> None:
        images = self._images
        await images.wait()
        answers = images.answers
        wrong, right = answers.surest(~answers.right), answers.surest(answers.right)
        if not self._row.has_layers:
            kit.note("Drop a photograph on Try, and let it show where it looks.")
        with ui.element("div").classes("columns"):
            for place in [*wrong[:2], *right[:1]] or right[:3]:
                label, answer = (
                    safe(images.names[int(of[place])], 40)
                    for of in (answers.labels, answers.answers)
                )
                with ui.element("div").classes("stack"):
                    images.picture(int(answers.rows[place]), f"Labelled {label}, answer {answer}")
                    if self._row.has_layers:
                        shown = f"{self._report.split}/{place}"
                        kit.link_button("Why this answer?", layout.address(
                            self._project, "inside", run=self._row.id, image=shown, view="why"
                        ), icon="blur_on")  # fmt: skip

    async def _trained(self) -> None:
        report, training = self._report, self._report.training
        ui.label(safe(report.dataset, 300)).classes("prose")
        length = []
        if training.fitted_to is not None:
            length = [("Learnt from", counted(training.fitted_to, "photograph"))]
        elif training.best_epoch is not None and not training.elsewhere:
            length = [("Epochs", f"{count(training.epochs)}, best {count(training.best_epoch)}")]
        kit.facts([
            *length, ("Time", clock(sum(report.seconds.values()))), ("Device", training.device),
            ("Parameters", count(training.parameters or 0)),
            ("File", file_size(report.file.bytes or 0)), *figure_rows(report.judged),
        ])  # fmt: skip
        for name, reason in report.reasons.items():
            kit.note(f"{name}: {reason}")
        history = []
        if self._row.in_steps:
            history = await asyncio.to_thread(self._images.run.read_history)
        if len(history) > 1:
            with ui.element("div").classes("columns"):
                for title, fields in CURVES.items():
                    curves_chart({name: [getattr(epoch, field) for epoch in history]
                                  for name, field in fields.items()}, title)  # fmt: skip
        kit.question("Settings", self._settings)

    async def _settings(self) -> None:
        recipe = await asyncio.to_thread(self._images.run.read, RecordedRecipe)
        kit.facts(
            (name.replace("_", " ").capitalize(), str(without_folders(value)))
            for name, value in values_of(recipe).items()
        )


def figure_rows(figures: PartFigures) -> list[tuple[str, str]]:
    """All figures with their 95% intervals, where these are known."""
    over = f" {over_classes(figures)}"
    return [
        (metric.title + over * metric.over_classes, metric.text(figures))
        for metric in known_metrics(figures)
    ]


def _by_class(figures: PartFigures) -> None:
    rows = []
    for i, entry in enumerate(figures.classes):
        right = figures.confusion[i][i] if figures.confusion else 0
        of = f"{count(right)} of {count(entry.count)}", right
        row: dict[str, object] = {"id": i, "Class": entry.name, "Right": of}
        for key in ("recall", "precision", "f1"):
            value, ends = getattr(entry, key), getattr(entry, f"{key}_interval")
            text = "–" if value is None else share(value) + (f" ({span(*ends)})" if ends else "")
            row[key.capitalize()] = text, -1.0 if value is None else value
        rows.append(row)
    table(rows, "Figures of each class", sort="Recall")
