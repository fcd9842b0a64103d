"""Add from: images that stay where they are, in a folder, a table, a known source or on the hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError, SourceError
from opsin.hub.hub_name import PREFIX, HubName
from opsin.studio.pages.page import Page
from opsin.studio.state import Studio
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


async def add_from(studio: Studio) -> None:
    """Build the page."""
    with page(studio, "Add from", guide="how-to/data.html"):
        kit.note(
            "A project of photos that stay where they are. It shows them, trains with them and "
            "notes your corrections beside them, and never changes them."
        )
        status = kit.StatusLine()
        form = _Form(studio, status)
        with ui.element("div").classes("stack"):
            kit.question("A folder, a zip or a table of this machine", form.folder, is_open=True)
            kit.question("A well-known collection", form.named)
            kit.question("A dataset of the Hugging Face hub", form.hub)


PAGE = Page("/add", add_from, more="Add from")


class _Form:
    """The ways to add; each ends on the photos of the new project."""

    def __init__(self, studio: Studio, status: kit.StatusLine) -> None:
        self._studio, self._status = studio, status

    async def folder(self) -> None:
        """Show the folders."""
        kit.note(
            "Choose the folder with a subfolder for each class, or a table with a column of files "
            "and one of classes."
        )
        picker = FolderPicker(self._studio.folders, "Add this folder", self._add)
        await picker.open()

    def named(self) -> None:
        """Show the collections that are known by name."""
        kit.note("Downloaded once where this machine does not have it yet, and checked.")
        with ui.element("div").classes("line"):
            choice = ui.select(NAMED, value="digits", label="Collection")
            choice.style("min-width: min(100%, 400px)")
            kit.action("Add it", lambda: self._add(lambda: str(choice.value)), needs="owner")

    def hub(self) -> None:
        """Ask for a name on the hub."""
        with ui.element("div").classes("line"):
            field = ui.input("Name", placeholder="owner/name").props("maxlength=200")
            field.style("min-width: min(100%, 400px)")
            kit.action(
                "Add it", lambda: self._add(lambda: _on_hub(str(field.value or ""))), needs="owner"
            )

    async def _add(self, source: Callable[[], Path | str]) -> None:
        """Look a source up, add it, and go to its photos."""
        self._status.say("Looking for its images …")
        try:
            added = await asyncio.to_thread(lambda: self._studio.sets.add_source(str(source())))
        except OpsinError as error:
            self._status.fail(kit.without_commands(str(error)))
            return
        self._status.clear()
        self._studio.changed.emit("sets")
        ui.navigate.to(address(added.id, "photos"))


def _on_hub(name: str) -> str:
    name = name.strip().removeprefix(PREFIX)
    if HubName.read(name.partition(":")[0]) is None:
        raise SourceError("This is no name on the hub", "Copy it from the dataset's page there.")
    return f"{PREFIX}{name}"
