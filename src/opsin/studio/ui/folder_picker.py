"""Folders of this machine, to choose one of them or a file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, counted, file_size
from opsin.studio.ui import kit
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.datasets.folders import FolderEntry, Folders, Listing

# Folders that are shown at first.
_SHOWN: Final = 100
# Images are counted up to this number only.
_COUNTED: Final = 10_000


class FolderPicker:
    """Leads through the folders that may be looked into; a click on one opens it.

    Args:
        folders: Those folders.
        button: What the button says that takes the folder that is open.
        choose: Is given a function that returns the place, which is looked up when it is called.
        files: Whether a file, such as a zip or a table, can be chosen as well.
    """

    def __init__(
        self, folders: Folders, button: str,
        choose: Callable[[Callable[[], Path]], Awaitable[None]], *, files: bool = True,
    ) -> None:  # fmt: skip
        self._folders, self._button, self._choose, self._files = folders, button, choose, files
        self._place = ui.element("div").classes("stack")

    async def open(self, id_: str = "") -> None:
        """Show the content of a folder, or where to start."""
        roots = self._folders.root_ids()
        entries: list[FolderEntry] = []
        listing: Listing | None = None
        error: OpsinError | None = None
        try:
            if id_ or len(roots) == 1:
                listing = await asyncio.to_thread(self._folders.list, id_ or roots[0])
        except OpsinError as refused:
            error = refused
        if listing is None:
            entries = [await asyncio.to_thread(self._folders.entry, root) for root in roots]
        if self._place.is_deleted:
            return
        self._place.clear()
        with self._place:
            if error is not None:
                kit.error_line(error)
            if listing is None:
                kit.note("Choose where to start.")
                self._list(entries, _SHOWN)
            else:
                self._show(listing, several=len(roots) > 1)

    def _show(self, listing: Listing, *, several: bool) -> None:
        here = listing.here.id
        with ui.element("nav").classes("line").props('aria-label="Folders above"'):
            if several:
                kit.action("Folders", partial(self.open, ""), kind="quiet").props("dense")
            for entry in listing.parents:
                self._link(entry)
            ui.label(safe(listing.here.name, 60)).classes("text-weight-bold")
        with ui.element("div").classes("line"):
            holds = in_words(listing.images, len(listing.folders))
            kit.action(
                self._button, lambda: self._choose(lambda: self._folders.path(here)),
                kind="primary",
            )  # fmt: skip
            kit.note(holds)
        self._list(listing.folders, _SHOWN)
        for file in listing.files if self._files else ():
            with ui.element("div").classes("line"):
                button = kit.action("Choose", self._chooser(file)).props("dense")
                button.props["aria-label"] = f"Choose {safe(file.name, 80)}"
                ui.label(safe(file.name, 80))
                kit.note(file_size(file.size))
        if listing.passed_over:
            kit.note(f"{count(listing.passed_over)} not shown: links elsewhere, or too many.")

    def _list(self, entries: tuple[FolderEntry, ...] | list[FolderEntry], most: int) -> None:
        with ui.element("div").classes("columns folders") as place:
            for entry in entries[:most]:
                with ui.element("div").classes("line no-wrap"):
                    self._link(entry)
                    kit.note(in_words(entry.images, entry.folders))

        def show_all() -> None:
            place.delete()
            more.delete()
            with self._place:
                self._list(entries, len(entries))

        if len(entries) > most:
            more = kit.action(f"Show all {count(len(entries))} folders", show_all)

    def _link(self, entry: FolderEntry) -> None:
        button = kit.action(entry.name, lambda: self.open(entry.id), kind="quiet", icon="folder")
        button.props("dense")

    def _chooser(self, file: FolderEntry) -> Callable[[], Awaitable[None]]:
        return lambda: self._choose(lambda: self._folders.path(file.id, "file"))


def in_words(images: int, folders: int) -> str:
    """What lies right in a folder.

    Example:
        >>> in_words(1, 12), in_words(0, 0)
        ('1 photo · 12 folders', 'no photos')
    """
    parts = [
        f"{count(number)}+ {word}s" if number >= _COUNTED else counted(number, word)
        for number, word in ((images, "photo"), (folders, "folder"))
        if number
    ]
    return " · ".join(parts) or "no photos"
