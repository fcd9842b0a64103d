"""Compare: which of two classifiers is right more often, on the same photographs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import clock, count, counted, file_size, span
from opsin.data.cache import digest_names
from opsin.evaluation.metric_table import headline_metrics
from opsin.report.side_by_side import ComparedPair, Comparison, DifferentAnswers
from opsin.studio.context import Studio
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import right_of
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit, layout
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, ImageViewer
from opsin.studio.ui.maps import confidence_of
from opsin.studio.ui.tables import table
from opsin.studio.words import of_photographs, safe


async def compared(studio: Studio, ids: Sequence[str], names: Sequence[str]) -> Comparison:
    """What `opsin compare` says of two classifiers, in these names."""
    runs = [str((await IMAGES.run(studio.runs.get, run_id)).path.absolute()) for run_id in ids]
    named = dict(zip(runs, names, strict=True))
    argv = command("compare", *runs, "--quiet")
    asked = await JobAction.ask(studio.jobs, "compare", " and ".join(names), argv)
    await asked.over()
    found, cause = await asked.answer(Comparison)
    if found is None:
        for run, name in named.items():
            if re.search(rf"{re.escape(run)}(/| has no ).*\.(json|npz)\b", cause):
                text = f"Files of {safe(name, 60)} are damaged or missing"
                raise OpsinError(text, "Remove this classifier, and train again.")
        raise OpsinError(kit.explained(_in_words(cause, named)).rstrip("."))
    lines = [f"{_in_words(line, named).rstrip('.')}." for line in (*found.notes, *found.remarks)]
    return found.model_copy(update={"notes": tuple(lines), "remarks": []})


def _in_words(text: str, named: Mapping[str, str]) -> str:
    """What the report says of runs and images, in the studio's words and names."""
    paths = sorted(named, key=len, reverse=True)  # one may begin another
    for at, path in enumerate(paths):
        text = text.replace(path, f"\0{at}\0")
    text = of_photographs(re.sub(r"\brun(s?)\b", r"classifier\1", text))
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


@Page("/compare")
async def show(studio: Studio, runs: str = "") -> None:
    """Build it."""
    ids = list(dict.fromkeys(filter(None, runs.split(","))))
    projects = [await asyncio.to_thread(studio.projects.of_run, id_) for id_ in ids]
    project = projects[0] if len({project.id for project in projects}) == 1 else None
    here, guide = "results" if project else "", "how-to/compare.html"
    with layout.page(studio, "Compare", project=project, here=here, guide=guide) as frame:
        if len(ids) != 2:
            words = "Choose two classifiers that were tested on the same photographs."
            kit.empty(words, "All classifiers", "/classifiers")
            return
        rows = [await asyncio.to_thread(studio.runs.row, id_) for id_ in ids]
        names = [of.title_of(row) for of, row in zip(projects, rows, strict=True)]
        if names[0] == names[1]:  # of two projects of one name
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
        (pair,) = found.pairs
        best = 0 if pair.better == pair.letters[0] else 1  # the newer one where none is better
        there = layout.address(projects[best], "try", run=ids[best])
        with frame.actions:
            kit.link_button(f"Try {safe(names[best], 40)}", there, kind="primary")
        with content:
            verdict, points = verdict_on(pair, *names)
            ui.label(safe(verdict, 300)).classes("headline")
            for line in (points, *found.notes):
                kit.note(line)
            _figures(found, names)
            await _pictures(studio, ids[0], pair, names)


def _figures(comparison: Comparison, names: Sequence[str]) -> None:
    cells = []
    for run, name in zip(comparison.runs, names, strict=True):
        row: dict[str, object] = {"id": name, "Classifier": name}
        row["Right"] = right_of(run).removeprefix("Right for "), run.accuracy
        row["Accuracy"] = f"{run.accuracy:.1%} ({span(run.low, run.high)})", run.accuracy
        row |= {each.heading: round(each.value(run) or 0.0, 3) for each in headline_metrics()}
        row["File"] = file_size(run.bytes or 0), run.bytes or 0
        row["Trained for"] = clock(run.seconds or 0), run.seconds or 0
        cells.append(row)
    table(cells, f"Figures on {count(comparison.images)} photographs")


async def _pictures(studio: Studio, first: str, pair: ComparedPair, names: Sequence[str]) -> None:
    opened = await studio.albums.of_run(first)
    rows = {digest: row for row, digest in enumerate(digest_names(opened.decoded.digests))}
    called = dict(zip(pair.letters, names, strict=True))

    def describe(image: DifferentAnswers) -> GalleryImage:
        lines = (
            image.name,
            f"It is labelled {safe(image.actual, 60)}",
            *(
                f"{safe(name, 24)}: {safe(answer.label, 24)} {confidence_of(answer.confidence)}"
                for name, answer in zip(names, image.answers, strict=True)
            ),
        )
        wrong = [safe(a.label, 16) for a in image.answers if a.label != image.actual]
        caption = f"{safe(image.actual, 16)}, not {' or '.join(wrong)}"
        address = opened.address(rows[image.digest]) if image.digest in rows else ""
        return GalleryImage(address, ", ".join(lines), caption, lines=lines)

    for kind, images in pair.by_who_is_right():
        title = " ".join(called.get(word, word) for word in kind.split())
        kit.heading(f"{title} ({count(len(images))})")
        height = 440 if len(images) > 12 else 0
        ImageGallery(title, images, describe, on_open=ImageViewer, height=height)
