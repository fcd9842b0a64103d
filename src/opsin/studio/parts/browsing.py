"""A walk through the folders below the roots, to choose a folder or a file."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, file_size
from opsin.studio import words
from opsin.studio.parts import layout
from opsin.studio.parts.folder_list import folder_links, holds, path_to
from opsin.studio.parts.paging import page_links

if TYPE_CHECKING:
    from opsin.studio.datasets.folders import FolderEntry, Folders, Listing

# Folders on one page.
_PER: Final = 100


@dataclass(frozen=True)
class Browsing:
    """What a walk is for.

    Args:
        address: Of the page; the folder's id is added as ``folder``. What stands behind ``#``
            stays there.
        intro: What is to be chosen.
        this: What the button says that takes the folder that is shown.
        file: What the buttons say that take a file.
        choose: Is given the place, which is looked up when it is called.
    """

    address: str
    intro: str
    this: str
    file: str
    choose: Callable[[Callable[[], Path]], Awaitable[None]]

    def to(self, folder: str, page: str = "") -> str:
        """Return the address of a folder, or of the roots where it is empty."""
        parts = urlsplit(self.address)
        more = urlencode({"folder": folder} if folder else {})
        query = "&".join(filter(None, (parts.query, more)))
        ends = f"&page={page}" if page else ""
        return parts._replace(query=query + ends).geturl()


async def browse(folders: Folders, browsing: Browsing, identity: str, page: int) -> None:
    """Show a folder, or the roots, with what can be chosen there.

    Args:
        folders: Those that may be looked into.
        browsing: What for.
        identity: The folder; empty for the roots.
        page: Which page of its folders.
    """
    # Of a large folder the counting takes longer than a page may take.
    await ui.context.client.connected()
    roots = folders.root_ids()
    listing: Listing | None = None
    try:
        if identity or len(roots) == 1:
            listing = await asyncio.to_thread(folders.list, identity or roots[0])
    except OpsinError as error:
        layout.error_line(error)
    if listing is None:
        ui.label("Choose where to start.").classes("op-muted")
        tops = [await asyncio.to_thread(folders.entry, root) for root in roots]
        folder_links(tops, browsing.to)
        return
    here = listing.here.id
    page = min(page, max(1, math.ceil(len(listing.folders) / _PER)))
    with ui.element("p").classes("op-muted"):
        ui.label(browsing.intro)
    path_to(listing, browsing.to, several=len(roots) > 1)
    with ui.element("div").classes("op-row"):
        ui.label(holds(listing.images, len(listing.folders))).classes("op-muted")
        layout.action(
            browsing.this, lambda: browsing.choose(lambda: folders.path(here)), primary=True
        )
    folder_links(listing.folders[(page - 1) * _PER : page * _PER], browsing.to)
    if len(listing.folders) > _PER:
        before, _, after = browsing.to(here, "0").rpartition("page=0")
        page_links(f"{before}page=", page, len(listing.folders), _PER, after)
    for file in listing.files:
        with ui.element("div").classes("op-row op-folder"):
            ui.label(words.safe(file.name, 80))
            ui.label(file_size(file.size)).classes("op-muted")
            layout.action(browsing.file, _chooser(folders, browsing, file))
    if listing.passed_over:
        number = count(listing.passed_over)
        ui.label(f"{number} not shown: links to other places, or too many.").classes("op-muted")


def _chooser(
    folders: Folders, browsing: Browsing, file: FolderEntry
) -> Callable[[], Awaitable[None]]:
    return lambda: browsing.choose(lambda: folders.path(file.id, "file"))
