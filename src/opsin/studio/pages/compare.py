"""Compare: which classifier is right more often, on the same photographs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError, RecipeError
from opsin.core.files import file_stamp
from opsin.core.format import clock, count, counted, file_size
from opsin.data.cache import digest_names
from opsin.data.run_images import pair_up
from opsin.evaluation.metric_table import headline_metrics
from opsin.report.side_by_side import ComparedPair, Comparison, DifferentAnswers
from opsin.studio.context import Studio
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import confidence_of, right_of, span
from opsin.studio.threads import IMAGES, ComputedOnce
from opsin.studio.ui import kit, layout
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, ImageViewer, Mark
from opsin.studio.ui.tables import table
from opsin.studio.words import safe

#: Most classifiers in a comparison.
MOST: Final = 10
# By names, runs and their state.
_KEPT: Final = ComputedOnce[str, Comparison](8)


async def compared(studio: Studio, ids: Sequence[str], names: Sequence[str]) -> Comparison:
    """What `opsin compare` says of some classifiers, in these names; kept until one changes."""
    if not 2 <= len(ids) <= MOST:
        raise RecipeError(f"Two to {MOST} classifiers can be compared, not {len(ids)}")

    def look() -> tuple[dict[str, str], str]:
        runs = [studio.runs.get(run_id) for run_id in ids]
        files = [file for run in runs for file in (run.report, run.predictions, run.split)]
        named = {str(run.path.absolute()): name for run, name in zip(runs, names, strict=True)}
        return named, f"{named} {[tuple(file_stamp(file)) for file in files]}"

    async def compute() -> Comparison:
        argv = command("compare", *named, "--quiet")
        asked = await JobAction.ask(studio.jobs, "compare", " and ".join(names), argv)
        await asked.over()
        found, cause = await asked.answer(Comparison)
        if found is None:
            raise OpsinError(kit.without_commands(_in_words(cause, named)).rstrip("."))
        lines = [
            f"{_in_words(line, named).rstrip('.')}." for line in (*found.notes, *found.remarks)
        ]
        return found.model_copy(update={"notes": tuple(lines), "remarks": []})

    named, key = await IMAGES.run(look)
    return await _KEPT.get(key, compute)


def _in_words(text: str, named: Mapping[str, str]) -> str:
    """What the report says of runs and images, in the studio's words and names."""
    paths = sorted(named, key=len, reverse=True)  # one may begin another
    for at, path in enumerate(paths):
        text = text.replace(path, f"\0{at}\0")
    for word, ours in (("image", "photograph"), ("run", "classifier")):
        text = re.sub(rf"\b{word}(s?)\b", rf"{ours}\1", text)
    for at, path in enumerate(paths):
        text = text.replace(f"\0{at}\0", named[path])
    return text[:1].upper() + text[1:]


def verdict_on(pair: ComparedPair, first: str, other: str) -> tuple[str, str]:
    """Which of two classifiers is right more often; and by how much."""
    low, difference, high = (
        f"{100 * value:+.1f}".replace("-", "−") for value in (pair.low, pair.difference, pair.high)
    )
    points = f"{other} compared with {first}: {difference} points ({low} to {high})."
    if pair.better is None:
        return f"No clear winner on {counted(pair.images, 'photograph')}", points
    winner, ahead, behind = first, pair.only_first, pair.only_second
    if pair.better == pair.letters[1]:
        winner, ahead, behind = other, behind, ahead
    better, worse = counted(ahead, "photograph"), count(behind) if behind else "none"
    return f"{winner} is right more often: {better} better, {worse} worse", points


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
        if len(ids) < 2:
            kit.empty("Choose two or more classifiers that were tested on the same photographs.",
                      "All classifiers", "/classifiers")  # fmt: skip
            return
        names = [titles.get(row.id, row.name) for row in rows]
        if len(set(names)) < len(names):  # of two projects of one name
            names = [f"{name} ({i})" for i, name in enumerate(names, start=1)]
        with ui.element("div").classes("stack") as content:
            kit.note("The photographs are compared …")
            ui.skeleton(height="200px")
        ui.timer(0, lambda: kit.guarded(fill), once=True)

    async def fill() -> None:
        try:
            found = await compared(studio, ids, names)
        finally:
            content.clear()
        with content:
            for pair, other in zip(found.pairs, names[1:], strict=True):
                verdict, points = verdict_on(pair, names[0], other)
                ui.label(safe(verdict, 300)).classes("headline" if len(names) == 2 else "")
                kit.note(points)
            for line in found.notes:
                kit.note(line)
            _figures(found, ids, names)
            await _pictures(studio, found, ids[0], names)


PAGE = Page("/compare", show)


def _figures(comparison: Comparison, ids: Sequence[str], names: Sequence[str]) -> None:
    """A table with a row for each classifier."""
    cells = []
    for run, id_, name in zip(comparison.runs, ids, names, strict=True):
        cells.append({
            "id": id_, "Classifier": name,
            "Right": (right_of(run).removeprefix("Right for "), run.accuracy),
            "Accuracy": (f"{100 * run.accuracy:.1f}% ({span(run.low, run.high)})", run.accuracy),
            **{metric.heading: round(metric.value(run) or 0.0, 3) for metric in headline_metrics()},
            "File": (file_size(run.bytes or 0), run.bytes or 0),
            "Trained for": (clock(run.seconds or 0), run.seconds or 0),
        })  # fmt: skip
    table(cells, f"Figures on {count(comparison.images)} photographs")


async def _pictures(
    studio: Studio, comparison: Comparison, first: str, names: Sequence[str]
) -> None:
    """Show the photographs to which two classifiers gave different answers."""
    opened = await studio.albums.of_run(first)
    for pair, other in zip(comparison.pairs, names[1:], strict=True):
        called = dict(zip(pair.letters, (names[0], other), strict=True))
        for kind, images in pair.by_who_is_right():
            rows = await IMAGES.run(rows_of, images, opened)
            title = " ".join(called.get(word, word) for word in kind.split())
            kit.heading(f"{title} ({count(len(images))})")
            described = [
                _described(image, row, opened, list(called.values()))
                for image, row in zip(images, rows, strict=True)
            ]
            viewer = ImageViewer(described.__len__, described.__getitem__)
            height = 440 if len(images) > 12 else 0
            ImageGallery(title, described, on_open=viewer.open, height=height)


def _described(
    image: DifferentAnswers, row: int | None, opened: DecodedDataset, names: Sequence[str]
) -> GalleryImage:
    """A photograph with both answers."""
    lines = (image.name, f"It is labelled {safe(image.actual, 60)}", *(
        f"{safe(name, 24)}: {safe(answer.label, 24)} {confidence_of(answer.confidence)}"
        for name, answer in zip(names, image.answers, strict=True)
    ))  # fmt: skip
    caption = f"{safe(image.actual, 16)}: {' or '.join(a.label[:16] for a in image.answers)}"
    mark: Mark = "" if any(answer.right for answer in image.answers) else "wrong"
    address = "" if row is None else opened.address(row)
    return GalleryImage(address, ", ".join(lines), caption, mark, lines)


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
