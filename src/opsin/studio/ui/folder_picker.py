"""Folders of this machine, to choose one of them or a file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, counted, file_size
from opsin.studio.datasets.folders import COUNTED, FolderEntry, Folders, Listing
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
        self._place = ui.element("div").classes("stack")

    async def open(self, id_: str = "") -> None:
        """Show the content of a folder, or where to start."""
        roots = self._folders.root_ids()
        listing: Listing | None = None
        error: OpsinError | None = None
        try:
            if id_ or len(roots) == 1:
                listing = await asyncio.to_thread(self._folders.list, id_ or roots[0])
        except OpsinError as refused:
            error = refused
        starts: list[FolderEntry] = []
        if listing is None:
            starts = [await asyncio.to_thread(self._folders.entry, root) for root in roots]
        if self._place.is_deleted:
            return
        self._place.clear()
        with self._place:
            if error is not None:
                kit.error_line(error)
            if listing is None:
                kit.note("Choose where to start.")
                self._list(starts)
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
            take = partial(self._choose, partial(self._folders.path, here))
            kit.action(self._button, take, kind="primary")
            kit.note(in_words(listing.images, len(listing.folders)))
        self._list(listing.folders)
        for file in listing.files:
            name = safe(file.name, 80)
            with ui.element("div").classes("line"):
                take = partial(self._choose, partial(self._folders.path, file.id, "file"))
                button = kit.action("Choose", take).props("dense")
                button.props["aria-label"] = f"Choose {name}"
                ui.label(name)
                kit.note(file_size(file.size))
        if listing.passed_over:
            kit.note(f"{count(listing.passed_over)} not shown: links elsewhere, or too many.")

    def _list(self, entries: Sequence[FolderEntry]) -> None:
        def rows(some: Sequence[FolderEntry]) -> None:
            columns.clear()
            with columns:
                for entry in some:
                    with ui.element("div").classes("line no-wrap"):
                        self._link(entry)
                        kit.note(in_words(entry.images, entry.folders))

        def show_all() -> None:
            more.delete()
            rows(entries)

        columns = ui.element("div").classes("columns folders")
        rows(entries[:_SHOWN])
        if len(entries) > _SHOWN:
            more = kit.action(f"Show all {count(len(entries))} folders", show_all)

    def _link(self, entry: FolderEntry) -> None:
        button = kit.action(entry.name, partial(self.open, entry.id), kind="quiet", icon="folder")
        button.props("dense")


def in_words(images: int, folders: int) -> str:
    """What lies right in a folder.

    Example:
        >>> in_words(1, 12), in_words(0, 0)
        ('1 photo · 12 folders', 'no photos')
    """
    parts = [
        f"{count(number)}+ {word}s" if number >= COUNTED else counted(number, word)
        for number, word in ((images, "photo"), (folders, "folder"))
        if number
    ]
    return " · ".join(parts) or "no photos"
