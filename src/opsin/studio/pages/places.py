"""Add from: projects of images that lie elsewhere, which are shown and never changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from nicegui import ui

from opsin.core.errors import OpsinError, SourceError
from opsin.core.format import count
from opsin.data.sources.named import NAMES
from opsin.hub.hub_name import PREFIX, HubName
from opsin.studio.context import Studio
from opsin.studio.datasets.folders import FolderEntry, Folders
from opsin.studio.pages.page import Page
from opsin.studio.ui import kit
from opsin.studio.ui.layout import address, page
from opsin.studio.words import safe

# Is given what looks the path of a folder or file up, or a name.
_Add = Callable[[Callable[[], Path | str]], Awaitable[None]]


@Page("/add", more="Add from", needs="owner")
def add_from(studio: Studio) -> None:
    """Build the page."""

    async def add(source: Callable[[], Path | str]) -> None:
        with status.errors():
            status.say("Looking for its photographs …")
            added = await asyncio.to_thread(lambda: studio.sets.add_source(str(source())))
            studio.changed.emit("sets")
            ui.navigate.to(address(added.id, "photos"))

    def name() -> str:
        text = str(field.value or "").strip().removeprefix(PREFIX)
        if text not in NAMES and HubName.read(text.partition(":")[0]) is None:
            raise SourceError("There is no collection of this name", "Copy it from its page.")
        return text if text in NAMES else f"{PREFIX}{text}"

    with page(studio, "Add from", guide="how-to/data.html"), ui.element("div").classes("stack"):
        kit.note(
            "A project whose photographs stay where they are. The studio shows them, trains with "
            "them and keeps your corrections beside them. It never changes them."
        )
        status = kit.StatusLine()
        kit.heading("A folder, a zip or a table of this machine")
        kit.note(
            "Choose a folder with a subfolder for each class, or a table with a column of files "
            "and one of classes."
        )
        folders = ui.element("div").classes("stack")
        kit.heading("A collection by its name")
        kit.note(
            f"One of {', '.join(NAMES)}, or owner/name of the Hugging Face hub. It is downloaded "
            "once, if this machine does not have it yet, and checked."
        )
        with ui.element("div").classes("line"):
            field = ui.input("Name", autocomplete=list(NAMES)).props("maxlength=200")
            kit.action("Add it", lambda: add(name))
        ui.timer(0, lambda: _show_folder(studio.folders, folders, add), once=True)


async def _show_folder(folders: Folders, place: ui.element, add: _Add, id_: str = "") -> None:
    """Show what lies in a folder that may be looked into, and a button that takes it."""
    fault: OpsinError | None = None
    try:
        listing = await asyncio.to_thread(folders.list, id_)
    except OpsinError as error:
        fault, listing = error, await asyncio.to_thread(folders.list)
    if place.is_deleted:
        return

    def link(entry: FolderEntry, icon: str = "folder") -> None:
        opened = partial(_show_folder, folders, place, add, entry.id)
        kit.action(entry.name, opened, kind="quiet", icon=icon).props("dense align=left no-wrap")

    place.clear()
    with place:
        if fault:
            kit.error_line(fault)
        with ui.element("div").classes("line"):
            if listing.above:
                link(listing.above, "arrow_upward")
            ui.label(safe(listing.here.name, 60)).classes("text-weight-bold")
            if listing.here.id:
                take = partial(add, partial(folders.path, listing.here.id))
                kit.action("Add this folder", take, kind="primary")
        with ui.element("div").classes("fields"):
            for entry in listing.folders:
                link(entry)
        for file in listing.files:
            with ui.element("div").classes("line"):
                chosen = kit.action("Choose", partial(add, partial(folders.path, file.id)))
                chosen.props("dense").props["aria-label"] = f"Choose {safe(file.name, 80)}"
                ui.label(safe(file.name, 80))
        if listing.left_out:
            kit.note(f"{count(listing.left_out)} not shown: links elsewhere, or too many.")
