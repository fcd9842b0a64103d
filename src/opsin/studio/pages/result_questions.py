"""The questions below a verdict: one unfolds under another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import PartFigures, Report, SuspectedLabel
from opsin.core.errors import OpsinError
from opsin.core.format import clock, count, counted, file_size
from opsin.evaluation.metric_table import known_metrics
from opsin.report.terminal import labels_grounds, over_classes
from opsin.studio.jobs.job import last_lines
from opsin.studio.pages import verdicts
from opsin.studio.pages.result_images import ResultImages, result_picture
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit, layout
from opsin.studio.ui.charts import MOST_CELLS, confusion_chart, curves_chart, reliability_chart
from opsin.studio.ui.tables import Column, TableRow, table
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.projects import Project
    from opsin.studio.state import Studio

# Pairs of confused classes, suspected labels, and lines of the log that are shown.
_PAIRS: Final = 12
_SUSPECTS: Final = 12
_LOG: Final = 200
_FILES: Final = (
    "classifier.onnx", "report.html", "report.json", "recipe.json", "pictures.csv",
    "predictions.npz", "README.md", "log.txt",
)  # fmt: skip


class Questions:
    """The questions of one window; those with photographs wait until these are open."""

    def __init__(
        self, studio: Studio, project: Project, directory: RunDirectory, images: ResultImages
    ) -> None:
        self.report, self._row = images.report, images.row
        self._studio, self._project = studio, project
        self._directory, self._images = directory, images
        self._ready = asyncio.Event()
        self._fault: OpsinError | None = None

    def build(self) -> None:
        """Show the questions, folded."""
        with ui.element("div"):
            kit.question("Where does it fail?", self._where)
            kit.question("Can you trust its confidence?", self._trust)
            self._labels_fold = kit.question("Which labels may be wrong?", self._labels)
            kit.question("What does it look at?", self._looks)
            kit.question("How was it trained?", self._trained)

    def without_images(self, fault: OpsinError) -> None:
        """Let the questions go on without photographs."""
        self._fault = fault
        self._ready.set()

    async def with_images(self) -> None:
        """Let the questions show photographs, and count the suspected labels."""
        self._ready.set()
        self._images.on_change(self._count_suspects)
        self._count_suspects()

    def _count_suspects(self) -> None:
        if not self._labels_fold.is_deleted:
            number = len(self._images.suspects)
            words = f" {count(number)}" if number else ""
            self._labels_fold.set_text(f"Which labels may be wrong?{words}")

    async def _opened(self) -> None:
        """Wait for the photographs, or raise why there are none."""
        await self._ready.wait()
        if self._fault is not None:
            raise self._fault

    # Where does it fail?

    def _where(self) -> None:
        figures = self.report.judged
        names = [entry.name for entry in figures.classes]
        with ui.element("div").classes("columns"):
            with ui.element("div").classes("stack"):
                if len(names) <= MOST_CELLS:
                    confusion_chart(figures.confusion, names, self._show_cell)
                    kit.note("Click a number to see its photographs.")
                self._pairs(figures, names)
            self._cell = ui.element("div").classes("stack").props('role="status"')
        kit.heading("By class")
        _by_class(figures)
        failures = self.report.failures
        if failures and failures.slices.traits:
            kit.heading("By kind of photograph")
            with ui.element("p").classes("prose"):
                ui.label(safe(verdicts.slice_words(failures.slices), 400))
            if failures.slices.weakest and not failures.slices.too_weak:
                _slices(self.report)

    def _pairs(self, figures: PartFigures, names: Sequence[str]) -> None:
        """List the pairs that are most often confused: for the keyboard, and many classes."""
        with ui.element("div").classes("line"):
            for pair in figures.confused[:_PAIRS]:
                at = names.index(pair.actual), names.index(pair.predicted)
                text = f"{safe(pair.actual, 24)} → {safe(pair.predicted, 24)} {count(pair.count)}"
                kit.action(text, lambda at=at: self._show_cell(*at)).props("dense")

    async def _show_cell(self, label: int, answer: int) -> None:
        names = [safe(entry.name, 40) for entry in self.report.judged.classes]
        self._cell.clear()
        with self._cell:
            right = label == answer
            kit.heading(f"{names[label]}, recognised" if right
                        else f"{names[label]}, taken for {names[answer]}")  # fmt: skip
            await kit.guarded(lambda: self._cell_images(label, answer))

    async def _cell_images(self, label: int, answer: int) -> None:
        await self._opened()
        places = self._images.cell(label, answer)
        kit.note(f"{counted(len(places), 'photograph')}, the most confident answers first.")
        if places:
            self._images.gallery("Photographs of this cell", places)

    # Can you trust its confidence?

    def _trust(self) -> None:
        figures = self.report.judged
        for line in (verdicts.trust(self.report), *verdicts.refusals(self.report)):
            with ui.element("p").classes("prose"):
                ui.label(line)
        if any(entry.count for entry in figures.reliability):
            reliability_chart(figures.reliability)

    # Which labels may be wrong?

    async def _labels(self) -> None:
        failures = self.report.failures
        grounds = labels_grounds(
            failures.suspected if failures else 0, failures.labels if failures else None
        )
        await self._opened()
        with ui.element("p").classes("prose"):
            ui.label(
                f"The classifier disagrees with these labels. {safe(grounds, 600)} Nothing changes "
                "unless you say so."
                if self._images.suspects
                else safe(grounds, 600)
            )
        if self._images.fixed:
            kit.note(self._images.fixed)
        self._suspects = ui.element("div").classes("columns")
        self._show_suspects()
        self._images.on_change(self._show_suspects)

    def _show_suspects(self) -> None:
        if self._suspects.is_deleted:
            return
        self._suspects.clear()
        suspects = self._images.suspects
        with self._suspects:
            for suspect in suspects[:_SUSPECTS]:
                self._suspect(suspect)
            if len(suspects) > _SUSPECTS:
                kit.note(f"{count(len(suspects) - _SUSPECTS)} more follow as you settle these.")
            if not suspects and self._images.now:
                kit.note("All of them are settled.")

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
        await self._opened()
        images = self._images
        kit.note("Bright places count most for the answer: it falls when they are covered.")
        wrong, right = images.mistakes(), images.answers.surest(images.answers.right)
        chosen = [*wrong[:2], *right[:1]] or right[:3]
        places = []
        with ui.element("div").classes("columns"):
            for place in chosen:
                row = ui.element("div").classes("line no-wrap items-start")
                with row:
                    label = images.names[int(images.answers.labels[place])]
                    images.picture(int(images.answers.rows[place]), f"Labelled {safe(label, 30)}")
                    with ui.element("div") as map_:
                        ui.skeleton(width="160px", height="160px")
                places.append(map_)
        if self._row.has_layers:
            with ui.element("div").classes("line"):
                kit.link_button("Look inside the network",
                                layout.address(self._project, "inside", run=self._row.id),
                                icon="visibility")  # fmt: skip
        for place, map_ in zip(chosen, places, strict=True):
            if not map_.is_deleted:
                await self._heat_map(place, map_)

    async def _heat_map(self, place: int, map_: ui.element) -> None:
        """Compute a heat map, which takes seconds, and show it."""
        images, tried = self._images, self._studio.tried
        content = await IMAGES.run(images.opened.png, int(images.answers.rows[place]))
        key, fault = tried.put(content, "photograph.png"), None
        try:
            await tried.heat(self._row.id, key)
        except OpsinError as error:
            fault = error
        if map_.is_deleted:
            return
        map_.clear()
        answer = safe(images.names[int(images.answers.answers[place])], 40)
        with map_:
            if fault is not None:
                kit.error_line(fault)
                return
            result_picture(f"/heat/{self._row.id}/{key}.png", f"Answer: {answer}",
                           f"What counted for the answer {answer}")  # fmt: skip

    # How was it trained?

    async def _trained(self) -> None:
        report, training = self.report, self.report.training
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
        history = await asyncio.to_thread(self._directory.read_history)
        if self._row.in_steps and len(history) > 1:
            with ui.element("div").classes("columns"):
                curves_chart(
                    {
                        "Training": [epoch.train_loss for epoch in history],
                        "Validation": [epoch.val_loss for epoch in history],
                    },
                    "Loss",
                )
                curves_chart({"Training": [epoch.train_accuracy for epoch in history],
                              "Validation": [epoch.val_accuracy for epoch in history]},
                             "Accuracy")  # fmt: skip
        if report.layers:
            kit.question("Layers", lambda: _layers(report))
        kit.question("Files", self._files)
        kit.question("Log", self._log)

    def _files(self) -> None:
        with ui.element("div").classes("line"):
            for name in _FILES:
                ui.link(name, f"/files/{self._row.id}/{name}")

    async def _log(self) -> None:
        lines = await asyncio.to_thread(last_lines, self._directory.log, _LOG)
        shown = "\n".join(safe(line, 400) for line in lines) or "No messages."
        with ui.element("pre").classes("mono").props('tabindex="0" aria-label="Log"'):
            ui.label(shown)


def figure_rows(figures: PartFigures) -> list[tuple[str, str]]:
    """All figures with their 95% intervals, where these are known."""
    over = f" {over_classes(figures)}"
    return [
        (metric.title + over * metric.over_classes, metric.text(figures))
        for metric in known_metrics(figures)
    ]


def _share(value: float | None, ends: Sequence[float] | None) -> TableRow:
    text = "–" if value is None else verdicts.share(value)
    return {"": f"{text} ({verdicts.span(*ends)})" if ends and value is not None else text,
            "_sort": -1.0 if value is None else value}  # fmt: skip


def _by_class(figures: PartFigures) -> None:
    rows = []
    for i, entry in enumerate(figures.classes):
        right = figures.confusion[i][i] if figures.confusion else 0
        row: dict[str, object] = {
            "id": i, "name": entry.name, "right": f"{count(right)} of {count(entry.count)}",
            "right_sort": right, "count": entry.count,
        }  # fmt: skip
        for key, value, ends in (
            ("recall", entry.recall, entry.recall_interval),
            ("precision", entry.precision, entry.precision_interval),
            ("f1", entry.f1, entry.f1_interval),
        ):
            known = value if entry.count else None
            row |= {f"{key}{part}": cell for part, cell in _share(known, ends).items()}
        rows.append(row)
    columns = [
        Column("name", "Class", text=True), Column("right", "Right"), Column("recall", "Recall"),
        Column("precision", "Precision"), Column("f1", "F1"),
    ]  # fmt: skip
    table(columns, rows, "Figures of each class", sort="recall")


def _slices(report: Report) -> None:
    assert report.failures is not None
    rows = [
        {"id": i, "name": entry.name, "right": verdicts.right_of(entry.accuracy, entry.images)
         .removeprefix("Right for "), "share": f"{verdicts.share(entry.accuracy)} "
         f"({verdicts.span(entry.low, entry.high)})", "share_sort": entry.accuracy,
         "says": "yes" if entry.weak and not entry.explained else
         "as its classes explain" if entry.weak else "no"}
        for i, entry in enumerate(report.failures.slices.weakest)
    ]  # fmt: skip
    columns = [
        Column("name", "Photographs", text=True), Column("right", "Right"),
        Column("share", "Accuracy"), Column("says", "Worse than the others", text=True),
    ]  # fmt: skip
    table(columns, rows, "Kinds of photographs")


def _layers(report: Report) -> None:
    rows = [
        {"id": i, "name": layer.name, "kind": layer.kind, "shape": "×".join(map(str, layer.shape)),
         "parameters": count(layer.parameters), "parameters_sort": layer.parameters}
        for i, layer in enumerate(report.layers)
    ]  # fmt: skip
    columns = [
        Column("name", "Layer", text=True), Column("kind", "Kind", text=True),
        Column("shape", "Output"), Column("parameters", "Parameters"),
    ]  # fmt: skip
    table(columns, rows, "Layers")
