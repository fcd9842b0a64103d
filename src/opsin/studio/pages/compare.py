"""Compare: which classifier is right more often, on the same photographs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import clock, count, day, file_size
from opsin.data.cache import digest_names
from opsin.data.run_images import pair_up
from opsin.evaluation.metric_table import headline_metrics
from opsin.report.side_by_side import Comparison, DifferentAnswers
from opsin.studio.context import Studio
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
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit, layout
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.tables import Column, TableRow, table
from opsin.studio.ui.viewer import ImageViewer
from opsin.studio.words import safe

# Images of each kind beyond which a gallery scrolls by itself, and its height then.
_SEVERAL: Final = 12
_HEIGHT: Final = 440


async def show(studio: Studio, runs: str = "") -> None:
    """Build it."""
    ids = list(dict.fromkeys(filter(None, runs.split(","))))
    rows = [await asyncio.to_thread(studio.runs.row, id_) for id_ in ids]  # or there is none
    projects = await asyncio.to_thread(studio.projects.all)
    titles = {row.id: project.title_of(row) for project in projects for row in project.runs}
    shared = [project for project in projects if {*ids} <= {row.id for row in project.runs}]
    project = shared[0] if ids and shared else None
    compared = None
    with layout.page(studio, "Compare", project=project, here="results" if project else "",
                     guide="how-to/compare.html"):  # fmt: skip
        _choice(studio, rows, titles)
        if len(ids) > 1:
            names = [titles.get(row.id, row.name) for row in rows]
            if len(set(names)) < len(names):  # of two projects of one name
                names = [f"{name} ({i})" for i, name in enumerate(names, start=1)]
            compared = await asyncio.to_thread(Compared, studio.runs, studio.jobs, ids, names)
            content = ui.element("div").classes("stack")
            with content:
                kit.StatusLine().say("The photographs are compared …")
                ui.skeleton(height="200px")
    if compared is None:
        return
    await ui.context.client.connected()
    found = fault = None
    try:
        found = await comparison(studio, compared)
    except OpsinError as error:
        fault = error
    if content.is_deleted:
        return
    content.clear()
    with content:
        if found is None:
            kit.error_line(fault or "The comparison failed. Load the page again.")
            return
        for pair, other in zip(found.pairs, names[1:], strict=True):
            verdict, evidence = compared_headline(pair, names[0], other)
            with ui.element("p").classes("headline" if len(names) == 2 else ""):
                ui.label(safe(verdict, 300))
            kit.note(evidence)
        for words in compared_notes(found, names):
            with ui.element("p").classes("prose"):
                ui.label(safe(compared.in_names(words), 600))
        kit.heading("All figures")
        _figures(found, rows, names)
        pictures = ui.element("div").classes("stack")
    with pictures:
        await kit.guarded(lambda: _pictures(studio, found, ids[0], names, pictures))


PAGE = Page("/compare", show, more="Compare")


def _choice(studio: Studio, rows: Sequence[RunRow], titles: Mapping[str, str]) -> None:
    """Offer the classifiers that have figures."""
    able = [row for row in studio.runs.rows() if row.accuracy is not None]
    if len(able) < 2:
        kit.empty("Here two classifiers that were tested on the same photographs are compared. "
                  "Train a second one first.", "Your projects", "/")  # fmt: skip
        return
    names = {row.id: f"{safe(titles.get(row.id, row.name), 60)} · {day(row.started or 0)}"
             for row in (*able, *rows)}  # fmt: skip

    def compare() -> None:
        if 2 <= len(chosen.value) <= MOST:
            ui.navigate.to(f"/compare?runs={','.join(chosen.value)}")

    with ui.element("div").classes("line").style("margin-bottom: 16px"):
        chosen = ui.select(
            names, value=[row.id for row in rows], multiple=True, with_input=len(names) > 12,
            label=f"Classifiers, 2 to {MOST}; the first against the others",
        ).props("use-chips").style("width: min(100%, 640px)")  # fmt: skip
        button = kit.action("Compare", compare, kind="plain" if len(rows) > 1 else "primary")
        button.bind_enabled_from(chosen, "value", lambda value: 2 <= len(value) <= MOST)


async def comparison(studio: Studio, compared: Compared) -> Comparison:
    """The comparison, made first if there is none yet."""
    if (known := await asyncio.to_thread(compared.known)) is not None:
        return known
    asked = JobAction(studio.jobs, await asyncio.to_thread(compared.start))
    studio.changed.emit("jobs")
    await asked.over()
    return await asyncio.to_thread(compared.result, asked.job)


def _figures(comparison: Comparison, rows: Sequence[RunRow], names: Sequence[str]) -> None:
    """A table with a row for each classifier."""
    cells: list[TableRow] = []
    for run, row, name in zip(comparison.runs, rows, names, strict=True):
        metrics = {metric.key: metric.value(run) for metric in headline_metrics()}
        cells.append({
            "id": row.id, "name": name,
            "right": right_of(run.accuracy, run.images).removeprefix("Right for "),
            "right_sort": run.accuracy,
            "accuracy": f"{100 * run.accuracy:.1f}% ({span(run.low, run.high)})",
            "accuracy_sort": run.accuracy,
            **{key: "–" if value is None else f"{value:.3f}" for key, value in metrics.items()},
            "file": "–" if run.bytes is None else file_size(run.bytes),
            "file_sort": run.bytes or 0,
            "seconds": "–" if run.seconds is None else clock(run.seconds),
            "seconds_sort": run.seconds or 0,
            "date": day(row.started or 0), "date_sort": row.started or 0,
        })  # fmt: skip
    columns = [
        Column("name", "Classifier", text=True), Column("right", "Right"),
        Column("accuracy", "Accuracy"),
        *(Column(metric.key, metric.heading) for metric in headline_metrics()),
        Column("file", "File"), Column("seconds", "Trained for"), Column("date", "Date"),
    ]  # fmt: skip
    table(columns, cells, f"Figures on {count(comparison.images)} photographs")


async def _pictures(
    studio: Studio, comparison: Comparison, first: str, names: Sequence[str], place: ui.element
) -> None:
    """Show the photographs to which two classifiers gave different answers."""
    opened = await studio.opened.of_run(first)
    for pair, other in zip(comparison.pairs, names[1:], strict=True):
        two = names[0], other
        titles = {f"Only {letter} is right": f"Only {name} is right"
                  for letter, name in zip(pair.letters, two, strict=True)}  # fmt: skip
        for kind, images in pair.by_who_is_right():
            rows = await IMAGES.run(rows_of, images, opened)
            if place.is_deleted:
                return
            title = titles.get(kind, kind)
            kit.heading(f"{title} ({count(len(images))})")
            _gallery(title, images, rows, opened, two)


def _gallery(
    title: str, images: Sequence[DifferentAnswers], rows: Sequence[int | None],
    opened: DecodedDataset, names: tuple[str, str],
) -> None:  # fmt: skip
    """Show photographs with both answers."""

    def view(i: int) -> GalleryImage:
        image, row = images[i], rows[i]
        answers = [
            f"{safe(name, 24)}: {safe(answer.label, 24)} {confidence_of(answer.confidence)}"
            for name, answer in zip(names, image.answers, strict=True)
        ]
        lines = (f"It is labelled {safe(image.actual, 60)}", *answers)
        address = "" if row is None else opened.address(row)
        alt = f"{image.name}: {', '.join(lines)}"
        return GalleryImage(address, alt, image.name, lines=lines)

    def small(i: int) -> GalleryImage:
        image, viewed = images[i], view(i)
        caption = f"{safe(image.actual, 16)}: {' or '.join(a.label[:16] for a in image.answers)}"
        mark = "" if any(answer.right for answer in image.answers) else "wrong"
        return GalleryImage(viewed.src, viewed.alt, caption, mark)  # type: ignore[arg-type]

    viewer = ImageViewer(lambda: len(images), view)
    ImageGallery(title, range(len(images)), small, on_open=viewer.open,
                 height=_HEIGHT if len(images) > _SEVERAL else 0)  # fmt: skip


def rows_of(images: Sequence[DifferentAnswers], opened: DecodedDataset) -> list[int | None]:
    """Return the row of each image in the first run; ``None`` where it is not there.

    Exact copies are told apart by their names, and by their classes, which corrections change: no
    row stands for two images.
    """
    decoded = opened.decoded
    digests = digest_names(decoded.digests)
    here = [
        (digest, name, opened.classes[label])
        for digest, name, label in zip(digests, decoded.names, decoded.labels, strict=True)
    ]
    there = [(image.digest, image.name, image.actual) for image in images]
    rows: list[int | None] = [None] * len(images)
    for one, other in pair_up(there, here, (lambda key: key, itemgetter(0, 1), itemgetter(0, 2))):
        rows[one] = other
    return rows
