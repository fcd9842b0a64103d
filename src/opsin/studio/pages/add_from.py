"""Add from: images that stay where they are, in a folder, a table, a known source or on the hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError, SourceError
from opsin.hub.hub_name import PREFIX, HubName
from opsin.studio.context import Studio
from opsin.studio.pages.page import Page
from opsin.studio.ui import kit
from opsin.studio.ui.folder_picker import FolderPicker
from opsin.studio.ui.layout import address, page

#: A word about each source that is known by its name.
NAMED: Final = {
    "digits": "Digits: 1,797 scans, 8×8 grey, always there",
    "mnist": "MNIST: 70,000 written digits, 28×28 grey",
    "fashion-mnist": "Fashion-MNIST: 70,000 pictures of clothes, 28×28 grey",
    "kmnist": "KMNIST: 70,000 characters of old Japanese, 28×28 grey",
    "cifar10": "CIFAR-10: 60,000 photos of animals and vehicles, 32×32",
    "cifar100": "CIFAR-100: 60,000 photos of 100 kinds of things, 32×32",
}
_WIDE: Final = "min-width: min(100%, 400px)"


async def add_from(studio: Studio) -> None:
    """Build the page."""

    async def add(source: Callable[[], Path | str]) -> None:
        status.say("Looking for its images …")
        try:
            added = await asyncio.to_thread(lambda: studio.sets.add_source(str(source())))
        except OpsinError as error:
            status.fail(kit.without_commands(str(error)))
            return
        status.clear()
        studio.changed.emit("sets")
        ui.navigate.to(address(added.id, "photos"))

    async def folder() -> None:
        kit.note(
            "Choose a folder with a subfolder for each class, or a table with a column of files "
            "and one of classes."
        )
        await FolderPicker(studio.folders, "Add this folder", add).open()

    def named() -> None:
        kit.note("Downloaded once, if this machine does not have it yet, and checked.")
        with ui.element("div").classes("line"):
            choice = ui.select(NAMED, value="digits", label="Collection").style(_WIDE)
            kit.action("Add it", lambda: add(lambda: str(choice.value)), needs="owner")

    def hub() -> None:
        with ui.element("div").classes("line"):
            field = ui.input("Name", placeholder="owner/name").props("maxlength=200").style(_WIDE)
            kit.action("Add it", lambda: add(lambda: _on_hub(field.value)), needs="owner")

    with page(studio, "Add from", guide="how-to/data.html"):
        kit.note(
            "A project whose photos stay where they are. The studio shows them, trains with them "
            "and keeps your corrections beside them. It never changes them."
        )
        status = kit.StatusLine()
        with ui.element("div").classes("stack"):
            kit.question("A folder, a zip or a table of this machine", folder, is_open=True)
            kit.question("A well-known collection", named)
            kit.question("A dataset of the Hugging Face hub", hub)


PAGE = Page("/add", add_from, more="Add from")


def _on_hub(name: str | None) -> str:
    name = (name or "").strip().removeprefix(PREFIX)
    if HubName.read(name.partition(":")[0]) is None:
        raise SourceError("The hub has no such names", "Copy the name from the dataset's page.")
    return f"{PREFIX}{name}"
