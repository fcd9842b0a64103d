"""Images that lie elsewhere: projects made from them, and where a run's are if they were moved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from nicegui import ui

from opsin.core.errors import MovedError, OpsinError, SourceError
from opsin.core.format import count
from opsin.data.run_images import recipe_of_run
from opsin.hub.hub_name import PREFIX, HubName
from opsin.studio.context import Studio
from opsin.studio.datasets.folders import FolderEntry, Folders
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.ui import kit
from opsin.studio.ui.layout import address, page
from opsin.studio.words import safe

#: A word about each source that is known by its name.
NAMED: Final = {
    "digits": "Digits: 1,797 scans, 8×8 grey, always there",
    "mnist": "MNIST: 70,000 written digits, 28×28 grey",
    "fashion-mnist": "Fashion-MNIST: 70,000 pictures of clothes, 28×28 grey",
    "kmnist": "KMNIST: 70,000 characters of old Japanese, 28×28 grey",
    "cifar10": "CIFAR-10: 60,000 photographs of animals and vehicles, 32×32",
    "cifar100": "CIFAR-100: 60,000 photographs of 100 kinds of things, 32×32",
}
_WIDE: Final = "min-width: min(100%, 400px)"

# Is given what looks the path of a folder or file up.
_Choose = Callable[[Callable[[], Path]], Awaitable[None]]


async def add_from(studio: Studio) -> None:
    """Build the page *Add from*: images that stay where they are."""

    async def add(source: Callable[[], Path | str]) -> None:
        status.say("Looking for its photographs …")
        try:
            added = await asyncio.to_thread(lambda: studio.sets.add_source(str(source())))
        except OpsinError as error:
            status.fail(kit.without_commands(str(error)))
        else:
            studio.changed.emit("sets")
            ui.navigate.to(address(added.id, "photos"))

    async def folder() -> None:
        kit.note(
            "Choose a folder with a subfolder for each class, or a table with a column of files "
            "and one of classes."
        )
        await _show_folders(studio.folders, "Add this folder", add)

    def named() -> None:
        kit.note("Downloaded once, if this machine does not have it yet, and checked.")
        with ui.element("div").classes("line"):
            choice = ui.select(NAMED, value="digits", label="Collection").style(_WIDE)
            kit.action("Add it", lambda: add(lambda: str(choice.value)), needs="owner")

    def hub() -> None:
        def name() -> str:
            text = (field.value or "").strip().removeprefix(PREFIX)
            if HubName.read(text.partition(":")[0]) is None:
                raise SourceError("This is not a dataset's name", "Copy it from its page.")
            return f"{PREFIX}{text}"

        with ui.element("div").classes("line"):
            field = ui.input("Name", placeholder="owner/name").props("maxlength=200").style(_WIDE)
            kit.action("Add it", lambda: add(name), needs="owner")

    with page(studio, "Add from", guide="how-to/data.html"):
        kit.note(
            "A project whose photographs stay where they are. The studio shows them, trains with "
            "them and keeps your corrections beside them. It never changes them."
        )
        status = kit.StatusLine()
        with ui.element("div").classes("stack"):
            kit.question("A folder, a zip or a table of this machine", folder, is_open=True)
            kit.question("A well-known collection", named)
            kit.question("A dataset of the Hugging Face hub", hub)


async def moved(studio: Studio, run_id: str) -> None:
    """Build the page that asks where a run's images are."""
    row = await asyncio.to_thread(studio.runs.row, run_id)
    project = await asyncio.to_thread(studio.projects.of_run, run_id)
    name, results = project.title_of(row), address(project, "results", run=row.id)
    places: list[str] = []

    def ask() -> None:
        old = safe(Path(gone[len(places)]).name or gone[len(places)], 80)
        of = f" ({len(places) + 1} of {len(gone)})" if len(gone) > 1 else ""
        question.set_text(
            f"Choose what was called {old} when this classifier was trained{of}. The photographs "
            "there are compared with those of the training, and nothing is changed."
        )

    async def choose(place: Callable[[], Path]) -> None:
        """Go on with the next place, or prove all of them."""
        with status.errors():
            now = [*places, str(await asyncio.to_thread(place))]
            if len(now) < len(gone):
                places[:] = now
                ask()
                return
            status.say("The photographs are compared with those of the training …")
            await _prove(studio, run_id, dict(zip(gone, now, strict=True)), name)
            studio.changed.emit("runs")
            if not status.element.is_deleted:
                ui.navigate.to(results)

    with page(studio, f"Where are the photographs of {name}?", project=project, here="results"):
        gone: Sequence[str] = ()
        try:
            await asyncio.to_thread(lambda: recipe_of_run(studio.runs.get(run_id)))
        except MovedError as error:
            gone = error.gone
        if not gone:
            kit.empty("Its photographs are where they were.", "Back to the results", results)
            return
        with ui.element("div").classes("stack"):
            question, status = ui.label().classes("prose"), kit.StatusLine()
            ask()
            await _show_folders(studio.folders, "They are here", choose)


PAGE = Page("/add", add_from, more="Add from")
MOVED = Page("/runs/{run_id}/moved", moved)


async def _prove(studio: Studio, run_id: str, now: dict[str, str], name: str) -> None:
    """Compare the images in a process of its own, which remembers their place."""
    directory = studio.runs.get(run_id)

    def words() -> tuple[str, ...]:
        location = directory.location()
        places = [*location.sources, *([location.test] if location.test else [])]
        options = [word for place in places for word in ("--data", now.get(place, place))]
        return command("runs", directory.path, *options)

    argv = await asyncio.to_thread(words)
    title = f"Find the photographs of {name}"
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


async def _show_folders(folders: Folders, button: str, choose: _Choose) -> None:
    """Lead through the folders that may be looked into; the button takes the open one."""
    content = ui.element("div").classes("stack")

    async def show(id_: str = "") -> None:
        fault: OpsinError | None = None
        try:
            listing = await asyncio.to_thread(folders.list, id_)
        except OpsinError as error:
            fault, listing = error, await asyncio.to_thread(folders.list)
        if content.is_deleted:
            return
        content.clear()
        with content:
            if fault:
                kit.error_line(fault)
            with ui.element("nav").classes("line").props('aria-label="Folders above"'):
                for entry in listing.above:
                    link(entry)
                ui.label(safe(listing.here.name, 60)).classes("text-weight-bold")
            if listing.here.id:
                with ui.element("div").classes("line"):
                    take = partial(choose, partial(folders.path, listing.here.id))
                    kit.action(button, take, kind="primary", needs="owner")
                    kit.note(listing.here.about)
            with ui.element("div").classes("columns folders"):
                for entry in listing.folders:
                    link(entry)
            for file in listing.files:
                with ui.element("div").classes("line"):
                    take = partial(choose, partial(folders.path, file.id))
                    chosen = kit.action("Choose", take).props("dense")
                    chosen.props["aria-label"] = f"Choose {safe(file.name, 80)}"
                    ui.label(safe(file.name, 80))
                    kit.note(file.about)
            if listing.passed_over:
                kit.note(f"{count(listing.passed_over)} not shown: links elsewhere, or too many.")

    def link(entry: FolderEntry) -> None:
        opened = partial(show, entry.id)
        kit.action(entry.name, opened, kind="quiet", icon="folder").props("dense")

    await show()
