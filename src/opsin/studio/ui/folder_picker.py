"""Folders of this machine, to choose one of them or a file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.studio.datasets.folders import FolderEntry, Folders, Listing
from opsin.studio.ui import kit
from opsin.studio.words import safe

# Folders that are shown at first.
_SHOWN: Final = 100


class FolderPicker:
    """Leads through the folders that may be looked into; a click on one opens it.

    ``button`` takes the open folder; ``choose`` is given a function that looks its path up.
    """

    def __init__(
        self, folders: Folders, button: str,
        choose: Callable[[Callable[[], Path]], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._folders, self._button, self._choose = folders, button, choose
        self._content = ui.element("div").classes("stack")

    async def open(self, id_: str = "") -> None:
        """Show the content of a folder, or where to start."""
        error: OpsinError | None = None
        try:
            listing = await asyncio.to_thread(self._folders.list, id_)
        except OpsinError as refused:
            error, listing = refused, await asyncio.to_thread(self._folders.list)
        if not self._content.is_deleted:
            self._content.clear()
            with self._content:
                if error is not None:
                    kit.error_line(error)
                self._show(listing)

    def _show(self, listing: Listing) -> None:
        if listing.here is None:
            kit.note("Choose where to start.")
        else:
            with ui.element("nav").classes("line").props('aria-label="Folders above"'):
                for entry in listing.above:
                    self._link(entry)
                ui.label(safe(listing.here.name, 60)).classes("text-weight-bold")
            with ui.element("div").classes("line"):
                take = partial(self._choose, partial(self._folders.path, listing.here.id))
                kit.action(self._button, take, kind="primary", needs="owner")
                kit.note(listing.here.about)
        with ui.element("div").classes("columns folders") as columns:
            self._rows(listing.folders[:_SHOWN])
        if rest := listing.folders[_SHOWN:]:

            def show_rest() -> None:
                more.delete()
                with columns:
                    self._rows(rest)

            more = kit.action(f"Show all {count(len(listing.folders))} folders", show_rest)
        for file in listing.files:
            name = safe(file.name, 80)
            with ui.element("div").classes("line"):
                take = partial(self._choose, partial(self._folders.path, file.id, "file"))
                kit.action("Choose", take).props("dense").props["aria-label"] = f"Choose {name}"
                ui.label(name)
                kit.note(file.about)
        if listing.passed_over:
            kit.note(f"{count(listing.passed_over)} not shown: links elsewhere, or too many.")

    def _rows(self, entries: Sequence[FolderEntry]) -> None:
        for entry in entries:
            with ui.element("div").classes("line no-wrap"):
                self._link(entry)
                kit.note(entry.about)

    def _link(self, entry: FolderEntry) -> None:
        opened = partial(self.open, entry.id)
        kit.action(entry.name, opened, kind="quiet", icon="folder").props("dense")
