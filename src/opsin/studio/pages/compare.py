"""Compare: which classifier is right more often, on the same photographs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter
from typing import Final
from weakref import WeakKeyDictionary

from nicegui import ui

from opsin.core.artifacts.run_report import Report
from opsin.core.errors import OpsinError
from opsin.core.format import clock, count, day, file_size
from opsin.data.cache import digest_names
from opsin.data.run_images import pair_up
from opsin.evaluation.metric_table import headline_metrics
from opsin.report.side_by_side import ComparedRun, Comparison, DifferentAnswers
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import (
    compared_headline,
    compared_notes,
    confidence_of,
    right_of,
    span,
)
from opsin.studio.runs.compared import MOST, Compared
from opsin.studio.runs.run_index import RunRow
from opsin.studio.state import Studio
from opsin.studio.threads import IMAGES, ComputedOnce
from opsin.studio.ui import kit, layout
from opsin.studio.ui.charts import curves_chart, roc_chart
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.tables import Column, TableRow, table
from opsin.studio.ui.viewer import ImageViewer, ViewedImage
from opsin.studio.words import safe

# Images of each kind beyond which a gallery scrolls by itself, and its height then.
_SEVERAL: Final = 12
_HEIGHT: Final = 440

_Making = ComputedOnce[str, Comparison]
# Comparisons under way, of each studio: windows wait for the same one.
_MAKING: Final[WeakKeyDictionary[Studio, _Making]] = WeakKeyDictionary()


async def show(studio: Studio, runs: str = "") -> None:
    """Build it."""
    ids = list(dict.fromkeys(id_ for id_ in runs.split(",") if id_))
    projects = await asyncio.to_thread(studio.projects.all)
    titles = {row.id: project.title_of(row) for project in projects for row in project.runs}
    shared = [project for project in projects if {*ids} <= {row.id for row in project.runs}]
    project = shared[0] if ids and shared else None
    page = None
    with layout.page(studio, "Compare", project=project, here="results" if project else "",
                     guide="how-to/compare.html"):  # fmt: skip
        _choice(studio, ids, titles)
        if len(ids) > 1:
            page = _ComparePage(studio, ids, titles)
            await page.build()
    if page is not None:
        await ui.context.client.connected()
        await page.fill()


PAGE = Page("/compare", show, more="Compare")


def _choice(studio: Studio, ids: Sequence[str], titles: dict[str, str]) -> None:
    """Offer the classifiers that have figures."""
    able = [row for row in studio.runs.rows() if row.accuracy is not None]
    if len(able) < 2:
        kit.empty("Here two classifiers that were tested on the same photographs are compared. "
                  "Train a second one first.", "Your projects", "/")  # fmt: skip
        return
    for id_ in ids:
        studio.runs.row(id_)  # or it says that there is none
    names = {row.id: f"{safe(titles.get(row.id, row.name), 60)} · {day(row.started or 0)}"
             for row in able}  # fmt: skip
    names |= {id_: safe(titles.get(id_, id_), 60) for id_ in ids if id_ not in names}

    def compare() -> None:
        if 2 <= len(chosen.value) <= MOST:
            ui.navigate.to(f"/compare?runs={','.join(chosen.value)}")

    with ui.element("div").classes("line").style("margin-bottom: 16px"):
        chosen = ui.select(
            names,
            value=list(ids),
            multiple=True,
            with_input=len(names) > 12,
            label=f"Classifiers, 2 to {MOST}; the first against the others",
        )
        chosen.props("use-chips").style("width: min(100%, 640px)")
        button = kit.action("Compare", compare, kind="plain" if len(ids) > 1 else "primary")
        button.bind_enabled_from(chosen, "value", lambda value: 2 <= len(value) <= MOST)


class _ComparePage:
    """The comparison, for one window."""

    def __init__(self, studio: Studio, ids: Sequence[str], titles: dict[str, str]) -> None:
        self._studio, self._ids = studio, ids
        self._rows: list[RunRow] = [studio.runs.row(id_) for id_ in ids]
        self._names = [titles.get(row.id, row.name) for row in self._rows]
        if len(set(self._names)) < len(self._names):  # of two projects of one name
            self._names = [f"{name} ({i})" for i, name in enumerate(self._names, start=1)]
        self._compared: Compared

    async def build(self) -> None:
        """Show what takes no time."""
        self._compared = await asyncio.to_thread(
            Compared, self._studio.runs, self._studio.jobs, self._ids, self._names
        )
        self._content = ui.element("div").classes("stack")
        with self._content:
            self._status = kit.StatusLine()
            self._status.say("The photographs are compared …")
            ui.skeleton(height="200px")

    async def fill(self) -> None:
        """Show the comparison; make it first if there is none yet."""
        comparison, fault = None, None
        try:
            comparison = await asyncio.to_thread(self._compared.known) or await self._made()
            reports = await asyncio.to_thread(
                lambda: [self._studio.runs.get(id_).read(Report) for id_ in self._ids]
            )
        except OpsinError as error:
            fault = error
        if self._content.is_deleted:
            return
        self._content.clear()
        with self._content:
            if comparison is None or fault is not None:
                kit.error_line(fault or "The comparison failed. Load the page again.")
                return
            self._verdict(comparison)
            pictures = ui.element("div").classes("stack")
            with ui.element("div"):
                kit.question("All figures", lambda: self._figures(comparison), is_open=True)
                kit.question("How did they learn?", self._curves)
                kit.question("ROC curves", lambda: self._roc(reports))
        await self._pictures(comparison, pictures)

    async def _made(self) -> Comparison:
        """The comparison that a window waits for already, or a new one; it is kept."""
        making = _MAKING.setdefault(self._studio, _Making(most=0))

        async def make() -> Comparison:
            job = await asyncio.to_thread(self._compared.start)
            self._studio.changed.emit("jobs")
            asked = JobAction(self._studio.jobs, job)
            await asked.over()
            return await asyncio.to_thread(self._compared.result, asked.job)

        return await making.get(self._compared.name, make)

    def _verdict(self, comparison: Comparison) -> None:
        names = self._names
        for pair, other in zip(comparison.pairs, names[1:], strict=True):
            first, *rest = compared_headline(pair, names[0], other)
            with ui.element("p").classes("headline" if len(names) == 2 else ""):
                ui.label(safe(first, 300))
            for line in rest:
                kit.note(line)
        for line in compared_notes(comparison, names):
            with ui.element("p").classes("prose"):
                ui.label(safe(self._compared.in_names(line), 600))

    def _figures(self, comparison: Comparison) -> None:
        pairs = zip(comparison.runs, self._rows, self._names, strict=True)
        rows = [_figures_of(run, row, name) for run, row, name in pairs]
        columns = [
            Column("name", "Classifier", text=True), Column("right", "Right"),
            Column("accuracy", "Accuracy"),
            *(Column(metric.key, metric.heading) for metric in headline_metrics()),
            Column("file", "File"), Column("seconds", "Trained for"), Column("date", "Date"),
            Column("parameters", "Parameters", hidden=True),
        ]  # fmt: skip
        table(columns, rows, f"Figures on {count(comparison.images)} photographs")

    async def _curves(self) -> None:
        histories = await asyncio.to_thread(
            lambda: [
                self._studio.runs.get(row.id).read_history() if row.in_steps else []
                for row in self._rows
            ]
        )
        curves = {name: epochs for name, epochs in zip(self._names, histories, strict=True)
                  if len(epochs) > 1}  # fmt: skip
        if not curves:
            kit.note("They learnt in one go, so there are no curves.")
            return
        with ui.element("div").classes("columns"):
            curves_chart({name: [epoch.val_accuracy for epoch in epochs]
                          for name, epochs in curves.items()}, "Validation accuracy")  # fmt: skip
            curves_chart({name: [epoch.val_loss for epoch in epochs]
                          for name, epochs in curves.items()}, "Validation loss")  # fmt: skip

    def _roc(self, reports: Sequence[Report]) -> None:
        """Show how well each tells a chosen class from all others, at every threshold."""
        known = [{entry.name: entry for entry in report.judged.curves.classes if entry.roc}
                 for report in reports]  # fmt: skip
        shared = [name for name in known[0] if all(name in entries for entries in known)]
        if not shared:
            kit.note("These classifiers have no ROC curves.")
            return
        choices = {i: safe(name, 60) for i, name in enumerate(shared)}

        def draw() -> None:
            place.clear()
            name = shared[chosen.value]
            with place:
                roc_chart({classifier: entries[name].roc or []
                           for classifier, entries in zip(self._names, known, strict=True)},
                          name)  # fmt: skip

        chosen = ui.select(choices, value=0, label="Class", on_change=draw).style("width: 260px")
        place = ui.element("div").style("max-width: 640px")
        draw()

    async def _pictures(self, comparison: Comparison, place: ui.element) -> None:
        """Show the photographs to which two classifiers gave different answers."""
        opened, fault = None, None
        try:
            opened = await self._studio.opened.of_run(self._ids[0])
        except OpsinError as error:
            fault = error
        if place.is_deleted:
            return
        with place:
            if fault is not None:
                kit.error_line(fault)
            for pair, other in zip(comparison.pairs, self._names[1:], strict=True):
                for title, images in pair.by_who_is_right():
                    named = title.replace(f"Only {pair.letters[1]} ", f"Only {other} ").replace(
                        f"Only {pair.letters[0]} ", f"Only {self._names[0]} "
                    )
                    kit.heading(f"{named} ({count(len(images))})")
                    if opened is not None:
                        rows = await IMAGES.run(rows_of, images, opened)
                        _gallery(named, images, rows, opened, (self._names[0], other))


def _gallery(
    title: str, images: Sequence[DifferentAnswers], rows: Sequence[int | None],
    opened: DecodedDataset, names: tuple[str, str],
) -> None:  # fmt: skip
    """Show photographs with both answers."""

    def words(image: DifferentAnswers) -> list[str]:
        return [
            f"{safe(name, 24)}: {safe(answer.label, 24)} {confidence_of(answer.confidence)}"
            for name, answer in zip(names, image.answers, strict=True)
        ]

    def address(i: int) -> str:
        row = rows[i]
        return "" if row is None else opened.address(row)

    def viewed(i: int) -> ViewedImage:
        image = images[i]
        lines = (f"It is labelled {safe(image.actual, 60)}", *words(image))
        return ViewedImage(address(i), ", ".join(lines), image.name, lines)

    viewer = ImageViewer(lambda: len(images), viewed)
    ImageGallery(
        title,
        [
            GalleryImage(
                address(i), f"{image.name}: {image.actual}; {', '.join(words(image))}",
                f"{safe(image.actual, 16)}: {' or '.join(a.label[:16] for a in image.answers)}",
                "" if any(answer.right for answer in image.answers) else "wrong",
            )
            for i, image in enumerate(images)
        ],
        on_open=viewer.open, height=_HEIGHT if len(images) > _SEVERAL else 0,
    )  # fmt: skip


def _figures_of(run: ComparedRun, row: RunRow, name: str) -> TableRow:
    """A classifier's row of the table."""
    metrics = {metric.key: metric.value(run) for metric in headline_metrics()}
    return {
        "id": row.id, "name": name,
        "right": right_of(run.accuracy, run.images).removeprefix("Right for "),
        "accuracy": f"{100 * run.accuracy:.1f}% ({span(run.low, run.high)})",
        "accuracy_sort": run.accuracy,
        **{key: "–" if value is None else f"{value:.3f}" for key, value in metrics.items()},
        "file": "–" if run.bytes is None else file_size(run.bytes), "file_sort": run.bytes or 0,
        "seconds": "–" if run.seconds is None else clock(run.seconds),
        "seconds_sort": run.seconds or 0, "date": day(row.started or 0),
        "parameters": "–" if run.parameters is None else count(run.parameters),
        "parameters_sort": run.parameters or 0,
    }  # fmt: skip


def rows_of(images: Sequence[DifferentAnswers], opened: DecodedDataset) -> list[int | None]:
    """Return the row of each image in the first run; ``None`` where it is not there.

    Exact copies are told apart by their names, and by their classes, which corrections change: no
    row stands for two images.
    """
    classes, names = opened.classes, opened.decoded.names
    here = [
        (digest, names[row], classes[label])
        for row, (digest, label) in enumerate(
            zip(digest_names(opened.decoded.digests), opened.decoded.labels, strict=True)
        )
    ]
    there = [(image.digest, image.name, image.actual) for image in images]
    rows: list[int | None] = [None] * len(images)
    for one, other in pair_up(there, here, (lambda key: key, itemgetter(0, 1), itemgetter(0, 2))):
        rows[one] = other
    return rows
