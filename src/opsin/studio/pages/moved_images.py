"""Where a run's images are now, if they were moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import MovedError, OpsinError
from opsin.data.run_images import recipe_of_run
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.state import Studio
from opsin.studio.ui import kit, layout
from opsin.studio.ui.folder_picker import FolderPicker
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.runs.run_index import RunRow


async def show(studio: Studio, run_id: str) -> None:
    """Build it."""
    row, directory = await asyncio.to_thread(studio.runs.opened, run_id)
    project = await asyncio.to_thread(studio.projects.of_run, run_id)
    title = f"Where are the photographs of {project.title_of(row)}?"
    with layout.page(studio, title, project=project, here="results"):
        await _Asking(studio, row, directory, layout.address(project, "results", run=row.id)).ask()


PAGE = Page("/runs/{run_id}/moved", show)


class _Asking:
    """The question for one window: one place after the other, then the proof.

    Args:
        studio: The state of all windows.
        row: The run.
        directory: Its files.
        results: The address of its results.
    """

    def __init__(self, studio: Studio, row: RunRow, directory: RunDirectory, results: str) -> None:
        self._studio, self._row, self._directory = studio, row, directory
        self._results = results
        self._places: list[str] = []

    async def ask(self) -> None:
        """Show what is asked for, and the folders that may be looked into."""
        try:
            await asyncio.to_thread(recipe_of_run, self._directory)
        except MovedError as moved:
            self._gone = moved.gone
        else:
            kit.empty("Its photographs are where they were.", "Back to the results", self._results)
            return
        with ui.element("div").classes("stack"):
            self._question = ui.label().classes("prose")
            self._status = kit.StatusLine()
            picker = FolderPicker(self._studio.folders, "They are here", self._choose)
        self._show_question()
        await ui.context.client.connected()
        await picker.open()

    def _show_question(self) -> None:
        asked = len(self._places)
        name = safe(Path(self._gone[asked]).name or self._gone[asked], 80)
        of = f" ({asked + 1} of {len(self._gone)})" if len(self._gone) > 1 else ""
        self._question.set_text(
            f"Choose what was called {name} when this classifier was trained{of}. The photographs "
            "there are compared with those of the training, and nothing is changed."
        )

    async def _choose(self, place: Callable[[], Path]) -> None:
        """Go on with the next place, or prove all of them."""
        with self._status.errors():
            places = [*self._places, str(await asyncio.to_thread(place))]
            if len(places) < len(self._gone):
                self._places = places
                self._show_question()
                return
            await self._prove(places)

    async def _prove(self, places: list[str]) -> None:
        """Compare the images in a process of its own, which remembers their place."""
        self._status.say("The photographs are compared with those of the training …")
        now = dict(zip(self._gone, places, strict=True))
        words = await asyncio.to_thread(_words, self._directory, now)
        title = f"Find the photographs of {self._row.name}"
        asked = await JobAction.ask(self._studio.jobs, "find", title, words)
        self._studio.changed.emit("jobs")
        await asked.over()
        if asked.job.state != "done":
            cause = asked.job.cause or "The photographs could not be compared."
            raise self._without_places(cause, now)
        self._studio.opened.forget(self._row.id)
        self._studio.changed.emit(f"run:{self._row.id}")
        if not self._status.element.is_deleted:
            with self._status.element:
                ui.navigate.to(self._results)

    def _without_places(self, text: str, now: dict[str, str]) -> OpsinError:
        """Say what differs; what the command line would do next is not for a page."""
        for place in (*now.values(), *now, str(self._directory.path)):
            text = text.replace(place, Path(place).name)
        return OpsinError(
            text.partition(". Restore the images")[0].rstrip("."), "Choose another place."
        )


def _words(directory: RunDirectory, now: dict[str, str]) -> tuple[str, ...]:
    """Return the command that proves a run's images to be where they are said to be."""
    location = directory.location()
    test = [location.test] if location.test else []
    places = [now.get(place, place) for place in (*location.sources, *test)]
    given = [word for place in places for word in ("--data", place)]
    return command("runs", directory.path, *given)
