"""Results: how good a classifier is, where it fails, and the way to use it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Final

from nicegui import ui

from opsin.core.artifacts.records import IMPORTED, Epoch
from opsin.core.artifacts.run_report import PartFigures, RecordedRecipe, Report, SuspectedLabel
from opsin.core.errors import OpsinError
from opsin.core.format import clock, count, counted, file_size, span
from opsin.core.recipe import without_folders
from opsin.evaluation.metric_table import known_metrics
from opsin.report.terminal import labels_grounds, over_classes
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.image_routes import files_of
from opsin.studio.jobs.training_form import CHOICES, LABELS, values_of
from opsin.studio.pages import verdicts
from opsin.studio.pages.downloads import download_menu
from opsin.studio.pages.page import Page
from opsin.studio.pages.result_images import ResultImages
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.ui import charts, kit, layout
from opsin.studio.ui.tables import table
from opsin.studio.words import of_photographs, safe

# Pairs of confused classes, and suspected labels, that are shown.
_PAIRS: Final = 12
_SUSPECTS: Final = 12


@Page("/projects/{project}/results")
async def show(studio: Studio, project: str, run: str = "") -> None:
    """Build it for the asked classifier, or the newest one."""
    of = await asyncio.to_thread(studio.projects.get, project)
    row = of.classifier() or next(iter(of.runs), None)
    if run:
        row = next((row for row in of.runs if row.id == run), None)
        if row is None:
            raise NotThere("There is no such classifier here", "Choose another one.")
    title = of.title_of(row) if row else "Results"
    guide = "understand/evaluation.html"
    with layout.page(studio, title, project=of, here="results", guide=guide) as frame:
        if row is None:
            words = "The results appear here after the training."
            kit.empty(words, "Train", layout.address(of, "train"))
        else:
            await _Results(studio, of, row, frame).build()


class _Results:
    """The page for one window: first what takes no time, then the photographs."""

    def __init__(self, studio: Studio, project: Project, row: RunRow, frame: layout.Frame) -> None:
        self._studio, self._project, self._row, self._frame = studio, project, row, frame

    async def build(self) -> None:
        """Show the verdict, and the questions, folded."""
        studio, row = self._studio, self._row
        directory = await asyncio.to_thread(studio.runs.get, row.id)
        files = await asyncio.to_thread(files_of, directory)
        with self._frame.actions:
            self._tools(files)
        studio.changed.subscribe(self._refresh, "runs")
        with ui.element("div").classes("stack"):
            if row.note:
                kit.note(row.note)
            if row.state == "running":
                kit.empty("It is being trained. The results appear here when it is done.")
            elif row.accuracy is None:
                self._without_figures()
            else:
                report = await asyncio.to_thread(directory.read, Report)
                images = ResultImages(studio, directory, report, self._frame.undo)
                ui.label(verdicts.in_short(report.judged)).classes("headline")
                _prose(verdicts.judged_by(report))
                if report.added is not None:
                    _prose(safe(report.added.words("photographs"), 600))
                for line in verdicts.limits(report):
                    ui.label(safe(line, 600)).classes("warning prose")
                with ui.element("div").classes("stack") as place:
                    ui.skeleton(height="200px")
                ui.timer(0, partial(self._show_images, images, place), once=True)

    def _without_figures(self) -> None:
        row, project = self._row, self._project
        if row.state == "damaged":
            kit.error_line(f"Its files are damaged: {row.cause}. Remove it, and train again.")
        elif row.has_classifier and row.model == IMPORTED:
            kit.empty(
                "It was imported without photographs to test it on, so its accuracy is not known.",
                "Try it",
                layout.address(project, "try", run=row.id),
            )
        else:
            cause = f" {row.cause.rstrip('.')}." if row.cause else ""
            kit.empty(
                f"The training ended before the classifier was tested.{safe(cause, 400)}",
                "Train again",
                layout.address(project, "train", **{"from": row.id}),
            )

    async def _show_images(self, images: ResultImages, place: ui.element) -> None:
        """Open the photographs, show the mistakes and fold the questions below."""
        fault = None
        try:
            await images.open()
        except OpsinError as error:
            fault = error
        place.clear()
        with place:
            if fault:
                kit.error_line(fault)
            else:
                self._mistakes(images)
            self._questions(images, fault)

    def _mistakes(self, images: ResultImages) -> None:
        with ui.element("div").props('role="status"'):
            self._corrected(images)
        images.listeners.append(self._corrected.refresh)
        worst, answers = verdicts.weakest(images.report.judged), images.answers
        if worst is None:
            kit.note("Every answer is right, so there are no mistakes to show.")
            return
        label, words = worst
        kit.heading(words)
        own = (answers.labels == label) & ~answers.right
        places = [*answers.surest(own), *answers.surest(~answers.right & ~own)]
        images.gallery("Mistakes, those of the weakest class first", places)
        kit.note(
            images.fixed
            or "Click a photograph to see it large. If its label is wrong, "
            "correct it there: the file stays as it is."
        )

    @ui.refreshable_method
    def _corrected(self, images: ResultImages) -> None:
        """Say how many labels were corrected since, and lead to the next training."""
        if number := len(images.now):
            here = {"from": self._row.id, "start": "1", "compare": self._row.id}
            again = layout.address(self._project, "train", **here)
            with ui.element("div").classes("line"):
                have = counted(number, "label was", "labels were")
                ui.label(f"{have} corrected since this training.")
                words = f"Train again with {counted(number, 'correction')}"
                kit.link_button(words, again, icon="model_training")

    # What can be done with the classifier.

    def _tools(self, files: Collection[str]) -> None:
        project, row = self._project, self._row
        title = project.title_of(row)
        if len(project.runs) > 1:
            verdicts.classifier_select(project, row, project.runs, "results")
        if row.has_classifier:
            there = layout.address(project, "try", run=row.id)
            kit.link_button("Try it", there, kind="primary", icon="photo_camera")
            download_menu(self._studio, row, title, files)
        with kit.icon_action("more_horiz", "More about this classifier"), ui.menu():
            ui.menu_item("Compare or remove", lambda: ui.navigate.to("/classifiers"))
        if allows("owner"):
            heading = self._frame.heading
            kit.rename_in_place(heading, lambda: project.title_of(self._row), self._rename)

    async def _rename(self, name: str) -> None:
        rename, row = self._studio.runs.rename, self._row
        await asyncio.to_thread(rename, row.id, name)
        undo = partial(asyncio.to_thread, rename, row.id, row.given_name)
        self._frame.undo.offer("The name was changed", undo, "runs")

    def _refresh(self) -> None:
        """Load the page anew when it was removed, or has ended."""
        before, now = self._row, self._studio.runs.find(self._row.folder)
        if now is None:
            ui.navigate.to(layout.address(self._project, "results"))
            return
        self._row = now
        if (before.state, before.accuracy) != (now.state, now.accuracy):
            ui.navigate.reload()
        self._frame.retitle(self._project.title_of(now))

    # The questions.

    def _questions(self, images: ResultImages, fault: OpsinError | None) -> None:
        """Fold them; without the photographs some can be answered."""
        kit.question("Where does it fail?", partial(self._where, images, fault))
        kit.question("Can you trust its confidence?", partial(_trust, images.report))
        if not fault:
            labels = "Which labels may be wrong?"
            fold = kit.question(labels, partial(self._labels, images))

            def count_suspects() -> None:
                number = len(images.suspects)
                fold.set_text(f"{labels} ({count(number)})" if number else labels)

            images.listeners.append(count_suspects)
            count_suspects()
            kit.question("What does it look at?", partial(self._looks, images))
        kit.question("How was it trained?", partial(self._trained, images))

    def _where(self, images: ResultImages, fault: OpsinError | None) -> None:
        figures, failures = images.report.judged, images.report.failures
        names = [entry.name for entry in figures.classes]

        def show_cell(label: int, answer: int) -> None:
            cell.clear()
            with cell:
                how = "recognised" if label == answer else f"taken for {safe(names[answer], 40)}"
                kit.heading(f"{safe(names[label], 40)}, {how}")
                if fault:
                    kit.error_line(fault)
                    return
                given = images.answers
                places = given.surest((given.labels == label) & (given.answers == answer))
                kit.note(f"{counted(len(places), 'photograph')}, the most confident answers first.")
                if places:
                    images.gallery("Photographs of this cell", places)

        with ui.element("div").classes("columns"):
            with ui.element("div").classes("stack"):
                if len(names) <= charts.MOST_CELLS:
                    charts.confusion_chart(figures.confusion, names, show_cell)
                    kit.note("Click a number to see its photographs.")
                with ui.element("div").classes("line"):  # for the keyboard, and many classes
                    for pair in figures.confused[:_PAIRS]:
                        at = names.index(pair.actual), names.index(pair.predicted)
                        text = (
                            f"{safe(pair.actual, 24)} → {safe(pair.predicted, 24)} {pair.count:,}"
                        )
                        kit.action(text, partial(show_cell, *at)).props("dense")
            cell = ui.element("div").classes("stack").props('role="status"')
        if weak := [entry for entry in failures.slices.weakest if entry.weak] if failures else []:
            why = ", as its classes explain" if weak[0].explained else ""
            text = f"Worst kind: {weak[0].name}, {weak[0].accuracy:.0%} right{why}."
            _prose(text)
        _by_class(figures)

    def _labels(self, images: ResultImages) -> None:
        failures = images.report.failures
        grounds = (failures.suspected, failures.labels) if failures else (0, None)
        if images.suspects:
            kit.note(
                "The classifier disagrees with these labels. Nothing changes unless you say so."
            )
        _prose(of_photographs(labels_grounds(*grounds)))
        if images.fixed:
            kit.note(images.fixed)
        self._suspects(images)
        images.listeners.append(self._suspects.refresh)

    @ui.refreshable_method
    def _suspects(self, images: ResultImages) -> None:
        with ui.element("div").classes("columns"):
            for suspect in images.suspects[:_SUSPECTS]:
                _suspect(images, suspect)
        if more := len(images.suspects[_SUSPECTS:]):
            follow = counted(more, "more follows", "more follow")
            kit.note(f"{follow} as you settle these.")
        if not images.suspects and images.now:
            kit.note("All of them are settled.")
            self._corrected(images)

    def _looks(self, images: ResultImages) -> None:
        kit.note("Heat maps show what decided, and whether you can trust them.")
        answers, here = images.answers, partial(layout.address, self._project, "inside", view="why")
        wrong, right = answers.surest(~answers.right), answers.surest(answers.right)
        with ui.element("div").classes("columns"):
            # Their numbers there, where the mistakes come first.
            for at, place in [*enumerate(wrong[:2]), *enumerate(right[:1], len(wrong))]:
                with ui.element("div").classes("stack"):
                    images.picture(int(answers.rows[place]))
                    there = here(run=self._row.id, image=str(at))
                    kit.link_button("Why this answer?", there, icon="blur_on")

    async def _trained(self, images: ResultImages) -> None:
        report, training = images.report, images.report.training
        _prose(of_photographs(report.dataset))
        length = []
        if training.fitted_to is not None:
            length = [("Learnt from", counted(training.fitted_to, "photograph"))]
        elif training.best_epoch is not None and not training.elsewhere:
            length = [("Epochs", f"{count(training.epochs)}, best {count(training.best_epoch)}")]
        kit.facts(
            [
                *length,
                ("Time", clock(sum(report.seconds.values()))),
                ("Device", training.device),
                ("Parameters", count(training.parameters or 0)),
                ("File", file_size(report.file.bytes or 0)),
                *figure_rows(report.judged),
            ]
        )
        for name, reason in report.reasons.items():
            kit.note(of_photographs(f"{name}: {reason}"))
        history = []
        if self._row.in_steps:
            history = await asyncio.to_thread(images.run.lines, Epoch)
        if len(history) > 1:
            with ui.element("div").classes("columns"):
                for quantity in charts.CURVES:
                    charts.curves_chart(quantity, history)

        async def settings() -> None:
            recipe = await asyncio.to_thread(images.run.read, RecordedRecipe)
            kit.facts(
                (
                    LABELS.get(name) or name.replace("_", " ").capitalize(),
                    CHOICES.get(name, {}).get(value) or str(without_folders(value)),
                )
                for name, value in values_of(recipe).items()
            )

        kit.question("Settings", settings)


def _trust(report: Report) -> None:
    figures, ood = report.judged, report.ood
    bins = [entry for entry in figures.reliability if entry.count]
    if bins:
        last, error = bins[-1], 100 * (figures.calibration_error or 0.0)
        _prose(
            f"Of the {counted(last.count, 'answer')} with a confidence over {last.low:.0%}, "
            f"{last.accuracy:.0%} were right. On average, confidence and accuracy differ by "
            f"{error:.0f} points."
        )
    if refused := figures.refused:
        _prose(
            f'It answered "none of these" to {count(refused.count)} of your '
            f"{count(refused.images)} photographs ({100 * refused.share:.1f}%)."
        )
    if ood:
        _prose(
            "Photographs of a class that it has never seen look stranger to it than yours in "
            f"{ood.near:.0%} of all pairs; noise, text and drawings in {ood.far:.0%}. "
            "Half would be chance."
        )
    if bins:
        charts.reliability_chart(bins)
    else:
        _prose("There are too few answers to tell.")


def _prose(text: str) -> None:
    ui.label(safe(text, 600)).classes("prose")


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
            interval = f" ({span(*ends)})" if ends else ""
            text = "–" if value is None else f"{value:.0%}{interval}"
            row[key.capitalize()] = text, -1.0 if value is None else value
        rows.append(row)
    table(rows, "Figures of each class", sort="Recall")


def _suspect(images: ResultImages, suspect: SuspectedLabel) -> None:
    other, label = suspect.suggested, safe(suspect.label, 30)

    def button(text: str, work: kit.Handler) -> None:
        kit.action(text, work).props("dense")

    with ui.element("article").classes("card stack"):
        with ui.element("div").classes("line no-wrap").style("align-items: start"):
            images.picture(suspect.row, f"Labelled {label}")
            if suspect.example is not None:
                images.picture(suspect.example, f"A typical {safe(other, 30)}, to compare")
        with ui.element("div").classes("line") as line:
            if other in images.opened.classes:
                button(f"It is {safe(other, 30)}", lambda: images.relabel(suspect.row, other))
            button(f"{label} is right", lambda: images.confirm(suspect))
            button("Leave out", lambda: images.relabel(suspect.row, None))
        line.set_visibility(not images.fixed)
