"""Compare: which classifier is right more often, on the same photographs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import clock, count, day, file_size
from opsin.data.cache import digest_names
from opsin.data.run_images import pair_up
from opsin.evaluation.metric_table import headline_metrics
from opsin.report.side_by_side import Comparison, DifferentAnswers
from opsin.studio.context import Studio
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import confidence_of, right_of, span
from opsin.studio.runs.compared import MOST, Compared, verdict_on
from opsin.studio.runs.run_index import RunRow
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit, layout
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.tables import table
from opsin.studio.ui.viewer import ImageViewer
from opsin.studio.words import safe


async def show(studio: Studio, runs: str = "") -> None:
    """Build it."""
    ids = list(dict.fromkeys(filter(None, runs.split(","))))
    rows = [await asyncio.to_thread(studio.runs.row, id_) for id_ in ids]  # or there is none
    projects = await asyncio.to_thread(studio.projects.all)
    titles = {row.id: project.title_of(row) for project in projects for row in project.runs}
    shared = [project for project in projects if {*ids} <= {row.id for row in project.runs}]
    project = shared[0] if ids and shared else None
    with layout.page(studio, "Compare", project=project, here="results" if project else "",
                     guide="how-to/compare.html"):  # fmt: skip
        _choice(studio, rows, titles)
        if len(ids) < 2:
            return
        names = [titles.get(row.id, row.name) for row in rows]
        if len(set(names)) < len(names):  # of two projects of one name
            names = [f"{name} ({i})" for i, name in enumerate(names, start=1)]
        compared = await asyncio.to_thread(Compared, studio.runs, studio.jobs, ids, names)
        content = ui.element("div").classes("stack")
        with content:
            kit.StatusLine().say("The photographs are compared …")
            ui.skeleton(height="200px")
    await ui.context.client.connected()
    found = fault = None
    try:
        found = await compared.get()
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
            verdict, points = verdict_on(pair, names[0], other)
            with ui.element("p").classes("headline" if len(names) == 2 else ""):
                ui.label(safe(verdict, 300))
            kit.note(points)
        for line in found.notes:
            kit.note(line)
        _figures(found, rows, names)
        await kit.guarded(lambda: _pictures(studio, found, ids[0], names, content))


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
    with ui.element("div").classes("line").style("margin-bottom: 16px"):
        chosen = ui.select(
            names, value=[row.id for row in rows], multiple=True, with_input=len(names) > 12,
            label=f"Classifiers, 2 to {MOST}; the first against the others",
        ).props("use-chips").style("width: min(100%, 640px)")  # fmt: skip
        button = kit.action("Compare", lambda: ui.navigate.to(
            f"/compare?runs={','.join(chosen.value)}"
        ), kind="plain" if len(rows) > 1 else "primary")  # fmt: skip
        button.bind_enabled_from(chosen, "value", lambda value: 2 <= len(value) <= MOST)


def _figures(comparison: Comparison, rows: Sequence[RunRow], names: Sequence[str]) -> None:
    """A table with a row for each classifier."""
    cells = []
    for run, row, name in zip(comparison.runs, rows, names, strict=True):
        metrics = {metric.heading: metric.value(run) for metric in headline_metrics()}
        cells.append({
            "id": row.id, "Classifier": name,
            "Right": (right_of(run).removeprefix("Right for "), run.accuracy),
            "Accuracy": (f"{100 * run.accuracy:.1f}% ({span(run.low, run.high)})", run.accuracy),
            **{title: ("–" if value is None else f"{value:.3f}", value or 0)
               for title, value in metrics.items()},
            "File": (file_size(run.bytes or 0), run.bytes or 0),
            "Trained for": (clock(run.seconds or 0), run.seconds or 0),
            "Date": (day(row.started or 0), row.started or 0),
        })  # fmt: skip
    table(cells, f"Figures on {count(comparison.images)} photographs")


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
            _gallery(title, list(zip(images, rows, strict=True)), opened, two)


def _gallery(
    title: str, images: Sequence[tuple[DifferentAnswers, int | None]], opened: DecodedDataset,
    names: tuple[str, str],
) -> None:  # fmt: skip
    """Show photographs with both answers."""

    def small(item: tuple[DifferentAnswers, int | None]) -> GalleryImage:
        image, row = item
        lines = (f"It is labelled {safe(image.actual, 60)}", *(
            f"{safe(name, 24)}: {safe(answer.label, 24)} {confidence_of(answer.confidence)}"
            for name, answer in zip(names, image.answers, strict=True)
        ))  # fmt: skip
        caption = f"{safe(image.actual, 16)}: {' or '.join(a.label[:16] for a in image.answers)}"
        return GalleryImage(
            "" if row is None else opened.address(row), f"{image.name}: {', '.join(lines)}",
            caption, "" if any(answer.right for answer in image.answers) else "wrong", lines,
        )  # fmt: skip

    viewer = ImageViewer(
        lambda: len(images), lambda at: replace(small(images[at]), caption=images[at][0].name)
    )
    ImageGallery(title, images, small, on_open=viewer.open, height=440 if len(images) > 12 else 0)


def rows_of(images: Sequence[DifferentAnswers], opened: DecodedDataset) -> list[int | None]:
    """The row of each image in the first run; ``None`` where it is not there.

    Exact copies are told apart by their names, and by their classes, which corrections change: no
    row stands for two images.
    """
    decoded = opened.decoded
    labels = (opened.classes[label] for label in decoded.labels)
    here = list(zip(digest_names(decoded.digests), decoded.names, labels, strict=True))
    there = [(image.digest, image.name, image.actual) for image in images]
    rows: list[int | None] = [None] * len(images)
    for one, other in pair_up(there, here, (lambda key: key, itemgetter(0, 1), itemgetter(0, 2))):
        rows[one] = other
    return rows
