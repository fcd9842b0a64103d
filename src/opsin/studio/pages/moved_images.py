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
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout
from opsin.studio.parts.browsing import Browsing, browse
from opsin.studio.parts.paging import page_number
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.state import Studio
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.runs.run_index import RunRow


async def show(
    studio: Studio, run_id: str, folder: str = "", page: str = "", chosen: str = ""
) -> None:
    """Build it."""
    row, directory = await asyncio.to_thread(studio.runs.opened, run_id)
    with layout.page(studio, f"Where are the images of {row.name}?", "/"):
        asking = _Asking(studio, row, directory, [each for each in chosen.split(",") if each])
        await asking.build(folder, page_number(page))


PAGE = Page("/runs/{run_id}/moved", show)


async def tell_moved(directory: RunDirectory) -> None:
    """Ask where a run's images are, if they are not where they were."""
    try:
        await asyncio.to_thread(recipe_of_run, directory)
    except MovedError as moved:
        layout.error_line(moved)
    except OpsinError:
        return  # a damaged run is reported elsewhere


class _Asking:
    """The question for one window: one place after the other, then the proof.

    Args:
        studio: What all windows share.
        row: The run.
        directory: Its files.
        chosen: Ids of the places that were named already.
    """

    def __init__(
        self, studio: Studio, row: RunRow, directory: RunDirectory, chosen: list[str]
    ) -> None:
        self._studio, self._row, self._directory = studio, row, directory
        self._chosen = chosen

    async def build(self, folder: str, page: int) -> None:
        """Show what is asked for, and the folders below the roots."""
        try:
            await asyncio.to_thread(recipe_of_run, self._directory)
        except MovedError as moved:
            self._gone = moved.gone
        else:
            layout.empty(
                "Its images are where they were.", "Back to the run", f"/runs/{self._row.id}"
            )
            return
        self._state = StatusLine()
        asked = min(len(self._chosen), len(self._gone) - 1)
        name = safe(Path(self._gone[asked]).name or self._gone[asked], 80)
        of = f" ({asked + 1} of {len(self._gone)})" if len(self._gone) > 1 else ""
        done = f"?chosen={','.join(self._chosen)}" if self._chosen else ""
        browsing = Browsing(
            address=f"/runs/{self._row.id}/moved{done}",
            intro=f"Choose what was called {name} when this run was made{of}. Its images are "
            "compared with those of the run, and nothing is changed.",
            this="They are here",
            file="This one",
            choose=self._choose,
        )
        await browse(self._studio.folders, browsing, folder, page)

    async def _choose(self, place: Callable[[], Path]) -> None:
        """Go on with the next place, or prove all of them."""
        try:
            here = await asyncio.to_thread(place)
            places = [*(await asyncio.to_thread(self._known)), str(here)]
        except OpsinError as error:
            self._state.fail(error)
            return
        if len(places) < len(self._gone):
            chosen = ",".join([*self._chosen, self._studio.folders.id_of(here)])
            ui.navigate.to(f"/runs/{self._row.id}/moved?chosen={chosen}")
            return
        await self._prove(places)

    def _known(self) -> list[str]:
        folders, found = self._studio.folders, []
        for each in self._chosen[: len(self._gone) - 1]:
            try:
                found.append(str(folders.path(each)))
            except NotThere:
                found.append(str(folders.path(each, "file")))
        return found

    async def _prove(self, places: list[str]) -> None:
        """Compare the images in a process of its own, which remembers their place."""
        self._state.say("Comparing the images with those of the run …")
        try:
            now = dict(zip(self._gone, places, strict=True))
            words = await asyncio.to_thread(_words, self._directory, now)
            title = f"Find the images of {self._row.name}"
            asked = await JobAction.ask(self._studio.jobs, "find", title, words)
            self._studio.changed.emit("jobs")
            await asked.over()
        except OpsinError as error:
            self._state.fail(error)
            return
        if asked.job.state != "done":
            cause = asked.job.cause or "The images could not be compared."
            self._state.fail(self._without_places(cause, now))
            return
        self._studio.opened.forget(self._row.id)
        self._studio.changed.emit(f"run:{self._row.id}")
        if not self._state.element.is_deleted:
            with self._state.element:
                ui.navigate.to(f"/runs/{self._row.id}")

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
