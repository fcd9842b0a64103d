"""Where a run's images are now, if they were moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import MovedError, OpsinError
from opsin.data.run_images import recipe_of_run
from opsin.studio.context import Studio
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.ui import kit, layout
from opsin.studio.ui.folder_picker import FolderPicker
from opsin.studio.words import safe


async def show(studio: Studio, run_id: str) -> None:
    """Build it."""
    row = await asyncio.to_thread(studio.runs.row, run_id)
    directory = await asyncio.to_thread(studio.runs.get, run_id)
    project = await asyncio.to_thread(studio.projects.of_run, run_id)
    name, results = project.title_of(row), layout.address(project, "results", run=row.id)
    picker = None
    with layout.page(
        studio, f"Where are the photographs of {name}?", project=project, here="results"
    ):
        gone: tuple[str, ...] = ()
        try:
            await asyncio.to_thread(recipe_of_run, directory)
        except MovedError as moved:
            gone = tuple(moved.gone)
        if not gone:
            kit.empty("Its photographs are where they were.", "Back to the results", results)
            return
        places: list[str] = []
        with ui.element("div").classes("stack"):
            question = ui.label(_question(gone, 0)).classes("prose")
            status = kit.StatusLine()

            async def choose(place: Callable[[], Path]) -> None:
                """Go on with the next place, or prove all of them."""
                with status.errors():
                    now = [*places, str(await asyncio.to_thread(place))]
                    if len(now) < len(gone):
                        places[:] = now
                        question.set_text(_question(gone, len(now)))
                        return
                    status.say("The photographs are compared with those of the training …")
                    found = dict(zip(gone, now, strict=True))
                    await _prove(studio, directory, found, f"Find the photographs of {name}")
                    studio.changed.emit("runs")
                    if not status.element.is_deleted:
                        ui.navigate.to(results)

            picker = FolderPicker(studio.folders, "They are here", choose)
    if picker is not None:
        await ui.context.client.connected()
        await picker.open()


PAGE = Page("/runs/{run_id}/moved", show)


def _question(gone: tuple[str, ...], at: int) -> str:
    name = safe(Path(gone[at]).name or gone[at], 80)
    of = f" ({at + 1} of {len(gone)})" if len(gone) > 1 else ""
    return (
        f"Choose what was called {name} when this classifier was trained{of}. The photographs "
        "there are compared with those of the training, and nothing is changed."
    )


async def _prove(studio: Studio, directory: RunDirectory, now: dict[str, str], title: str) -> None:
    """Compare the images in a process of its own, which remembers their place."""

    def words() -> tuple[str, ...]:
        location = directory.location()
        places = [*location.sources, *([location.test] if location.test else [])]
        options = [word for place in places for word in ("--data", now.get(place, place))]
        return command("runs", directory.path, *options)

    argv = await asyncio.to_thread(words)
    asked = await JobAction.ask(studio.jobs, "find", title, argv)
    studio.changed.emit("jobs")
    await asked.over()
    if asked.job.state != "done":
        text = asked.job.cause or "The photographs could not be compared."
        for place in (*now.values(), *now, str(directory.path)):
            text = text.replace(place, Path(place).name)
        # What the command line would do next is not for a page.
        cause = text.partition(". Restore the images")[0].rstrip(".")
        raise OpsinError(cause, "Choose another place.")
