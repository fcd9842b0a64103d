"""The questions below a verdict: one unfolds under another."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import PartFigures, RecordedRecipe, SuspectedLabel
from opsin.core.errors import OpsinError
from opsin.core.format import clock, count, counted, file_size
from opsin.core.recipe import without_folders
from opsin.evaluation.metric_table import known_metrics
from opsin.report.terminal import labels_grounds, over_classes
from opsin.studio.jobs.job import last_lines
from opsin.studio.jobs.training_form import values_of
from opsin.studio.pages import verdicts
from opsin.studio.pages.result_images import ResultImages, result_picture
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit, layout
from opsin.studio.ui.charts import MOST_CELLS, confusion_chart, curves_chart, reliability_chart
from opsin.studio.ui.tables import Column, table
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.context import Studio
    from opsin.studio.projects import Project

# Pairs of confused classes, suspected labels, and lines of the log that are shown.
_PAIRS: Final = 12
_SUSPECTS: Final = 12
_LOG: Final = 200


class Questions:
    """The questions of one window; those with photographs wait until these are open."""

    def __init__(
        self, studio: Studio, project: Project, directory: RunDirectory, files: Collection[str],
        images: ResultImages,
    ) -> None:  # fmt: skip
        self._report, self._row = images.report, images.row
        self._studio, self._project, self._images = studio, project, images
        self._directory, self._files = directory, files
        self._ready = asyncio.Event()
        self._fault: OpsinError | None = None
        self._drawing = asyncio.Lock()
        with ui.element("div"):
            kit.question("Where does it fail?", self._where)
            kit.question("Can you trust its confidence?", self._trust)
            self._labels_fold = kit.question("Which labels may be wrong?", self._labels)
            kit.question("What does it look at?", self._looks)
            kit.question("How was it trained?", self._trained)

    def go_on(self, fault: OpsinError | None) -> None:
        """The photographs are open now, or cannot be."""
        self._fault = fault
        self._ready.set()
        if fault is None:
            self._images.on_change(self._count_suspects)
            self._count_suspects()

    def _count_suspects(self) -> None:
        if not self._labels_fold.is_deleted:
            number = len(self._images.suspects)
            words = f" {count(number)}" if number else ""
            self._labels_fold.set_text(f"Which labels may be wrong?{words}")

    async def _opened(self) -> ResultImages:
        """Wait for the photographs, or raise why there are none."""
        await self._ready.wait()
        if self._fault is not None:
            raise self._fault
        return self._images

    # Where does it fail?

    def _where(self) -> None:
        figures = self._report.judged
        names = [entry.name for entry in figures.classes]
        with ui.element("div").classes("columns"):
            with ui.element("div").classes("stack"):
                if len(names) <= MOST_CELLS:
                    confusion_chart(figures.confusion, names, self._show_cell)
                    kit.note("Click a number to see its photographs.")
                with ui.element("div").classes("line"):  # for the keyboard, and many classes
                    for pair in figures.confused[:_PAIRS]:
                        at = names.index(pair.actual), names.index(pair.predicted)
                        kit.action(
                            f"{safe(pair.actual, 24)} → {safe(pair.predicted, 24)} "
                            f"{count(pair.count)}",
                            lambda at=at: self._show_cell(*at),
                        ).props("dense")
            self._cell = ui.element("div").classes("stack").props('role="status"')
        failures = self._report.failures
        if failures and failures.slices.traits:
            with ui.element("p").classes("prose"):
                ui.label(safe(verdicts.slice_words(failures.slices), 400))
        _by_class(figures)

    async def _show_cell(self, label: int, answer: int) -> None:
        names = [safe(entry.name, 40) for entry in self._report.judged.classes]

        async def show() -> None:
            images = await self._opened()
            places = images.cell(label, answer)
            kit.note(f"{counted(len(places), 'photograph')}, the most confident answers first.")
            if places:
                images.gallery("Photographs of this cell", places)

        self._cell.clear()
        with self._cell:
            kit.heading(f"{names[label]}, recognised" if label == answer
                        else f"{names[label]}, taken for {names[answer]}")  # fmt: skip
            await kit.guarded(show)

    # Can you trust its confidence?

    def _trust(self) -> None:
        for line in (verdicts.trust(self._report), *verdicts.refusals(self._report)):
            with ui.element("p").classes("prose"):
                ui.label(line)
        if any(entry.count for entry in self._report.judged.reliability):
            reliability_chart(self._report.judged.reliability)

    # Which labels may be wrong?

    async def _labels(self) -> None:
        failures, images = self._report.failures, await self._opened()
        grounds = labels_grounds(
            failures.suspected if failures else 0, failures.labels if failures else None
        )
        with ui.element("p").classes("prose"):
            ui.label(
                f"The classifier disagrees with these labels. {safe(grounds, 600)} Nothing changes "
                "unless you say so."
                if images.suspects
                else safe(grounds, 600)
            )
        if images.fixed:
            kit.note(images.fixed)
        place = ui.element("div").classes("columns")

        def show() -> None:
            if place.is_deleted:
                return
            place.clear()
            with place:
                for suspect in images.suspects[:_SUSPECTS]:
                    self._suspect(suspect)
                if more := len(images.suspects[_SUSPECTS:]):
                    kit.note(f"{count(more)} more follow as you settle these.")
                if not images.suspects and images.now:
                    kit.note("All of them are settled.")

        show()
        images.on_change(show)

    def _suspect(self, suspect: SuspectedLabel) -> None:
        images, other, label = self._images, suspect.suggested, suspect.label
        with ui.element("article").classes("card stack"):
            with ui.element("div").classes("line no-wrap items-start"):
                images.picture(suspect.row, f"Labelled {safe(label, 30)}")
                if suspect.example is not None:
                    images.picture(suspect.example, f"A typical {safe(other, 30)}, to compare")
            if not images.fixed:
                with ui.element("div").classes("line"):
                    if other in images.opened.classes:
                        kit.action(f"It is {safe(other, 30)}",
                                   lambda: images.relabel(suspect.row, other))  # fmt: skip
                    kit.action(f"{safe(label, 30)} is right", lambda: images.confirm(suspect))
                    kit.action("Leave out", lambda: images.relabel(suspect.row, None), kind="quiet")

    # What does it look at?

    async def _looks(self) -> None:
        images = await self._opened()
        wrong, right = images.mistakes(), images.answers.surest(images.answers.right)
        kit.note("Bright places count most for the answer: it falls when they are covered.")
        with ui.element("div").classes("columns"):
            for place in [*wrong[:2], *right[:1]] or right[:3]:
                with ui.element("div").classes("stack"):
                    self._heat_map(place)
        if self._row.has_layers:
            with ui.element("div").classes("line"):
                kit.link_button("Look inside the network",
                                layout.address(self._project, "inside", run=self._row.id),
                                icon="visibility")  # fmt: skip

    def _heat_map(self, place: int) -> None:
        """A photograph; on demand its heat map, which takes up to a minute, beside it."""
        images, tried = self._images, self._studio.tried
        row = int(images.answers.rows[place])
        label, answer = (
            safe(images.names[int(values[place])], 40)
            for values in (images.answers.labels, images.answers.answers)
        )
        with ui.element("div").classes("line no-wrap items-start") as line:
            images.picture(row, f"Labelled {label}, answer {answer}")
        status = kit.StatusLine()

        async def draw() -> None:
            button.disable()
            status.say("Covering one part after another. This takes up to a minute.")
            try:
                async with self._drawing:  # one after another: each keeps the processor busy
                    content = await IMAGES.run(images.opened.png, row)
                    given = tried.get(tried.put(content, "photograph.png"))
                    heat = await self._studio.inside.ask(self._row.id, "where", given)
            except OpsinError as error:
                status.fail(error)
                button.enable()
                return
            if not line.is_deleted:
                status.clear()
                button.delete()
                with line:
                    result_picture(heat.src(0), f"What counts for {answer}",
                                   f"What counted for the answer {answer}")  # fmt: skip

        with ui.element("div").classes("line"):
            button = kit.action("Show what counts", draw, kind="quiet", icon="blur_on")

    # How was it trained?

    async def _trained(self) -> None:
        report, training = self._report, self._report.training
        with ui.element("p").classes("prose"):
            ui.label(safe(report.dataset, 300))
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
            kit.note(f"{name}: {reason}")
        if self._row.in_steps:
            history = await asyncio.to_thread(self._directory.read_history)
            if len(history) > 1:
                with ui.element("div").classes("columns"):
                    for name, fields in (("Loss", "loss"), ("Accuracy", "accuracy")):
                        curves_chart(
                            {part: [getattr(epoch, f"{key}_{fields}") for epoch in history]
                             for part, key in (("Training", "train"), ("Validation", "val"))},
                            name,
                        )  # fmt: skip
        kit.question("Settings", self._settings)
        kit.question("Files and log", self._log)

    async def _settings(self) -> None:
        recipe = await asyncio.to_thread(self._directory.read, RecordedRecipe)
        kit.facts(
            (name.replace("_", " ").capitalize(), str(without_folders(value)))
            for name, value in values_of(recipe).items()
        )

    async def _log(self) -> None:
        lines = await asyncio.to_thread(last_lines, self._directory.log, _LOG)
        with ui.element("div").classes("line"):
            for name in sorted(self._files):
                ui.link(safe(name, 60), f"/files/{self._row.id}/{name}")
        with ui.element("pre").classes("mono").props('tabindex="0" aria-label="Log"'):
            ui.label("\n".join(safe(line, 400) for line in lines) or "No messages.")


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
        row: dict[str, object] = {
            "id": i, "name": entry.name, "right": f"{count(right)} of {count(entry.count)}",
            "right_sort": right,
        }  # fmt: skip
        for key in ("recall", "precision", "f1"):
            value, ends = getattr(entry, key), getattr(entry, f"{key}_interval")
            if value is None or not entry.count:
                row |= {key: "–", f"{key}_sort": -1.0}
                continue
            interval = f" ({verdicts.span(*ends)})" if ends else ""
            row |= {key: verdicts.share(value) + interval, f"{key}_sort": value}
        rows.append(row)
    columns = [
        Column("name", "Class", text=True), Column("right", "Right"), Column("recall", "Recall"),
        Column("precision", "Precision"), Column("f1", "F1"),
    ]  # fmt: skip
    table(columns, rows, "Figures of each class", sort="recall")
