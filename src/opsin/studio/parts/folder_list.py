"""Folders to walk through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.format import count, counted
from opsin.studio import words

if TYPE_CHECKING:
    from opsin.studio.datasets.folders import FolderEntry, Listing

CSS: Final = """
.op-path { margin: 0 0 .6rem; gap: .2rem .5rem; }
.op-path a::after { content: "/"; color: var(--muted); padding-left: .5rem; display: inline-block; }
.op-folders { list-style: none; margin: .6rem 0; padding: 0; display: grid; gap: 0 1.4rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.op-folder { display: flex; flex-wrap: wrap; gap: 0 .8rem; align-items: baseline;
  padding: .28rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; min-width: 0; }
.op-folder > .op-muted { margin-left: auto; }
"""


def path_to(listing: Listing, to: Callable[[str], str], *, several: bool) -> None:
    """Show the folders above, each a link, and the folder itself."""
    with ui.element("nav").classes("op-row op-path").props('aria-label="Folders above"'):
        if several:
            ui.link("Folders", to(""))
        for entry in listing.parents:
            ui.link(words.safe(entry.name, 40), to(entry.id))
        with ui.element("b"):
            ui.label(words.safe(listing.here.name, 80))


def folder_links(entries: Sequence[FolderEntry], to: Callable[[str], str]) -> None:
    """Show folders as links that lead into them, with what lies right in each."""
    with ui.element("ul").classes("op-folders"):
        for entry in entries:
            with ui.element("li").classes("op-folder"):
                ui.link(words.safe(entry.name, 80), to(entry.id))
                ui.label(holds(entry.images, entry.folders)).classes("op-muted")


def holds(images: int, folders: int) -> str:
    """Say what lies right in a folder.

    Example:
        >>> holds(1, 12), holds(0, 0)
        ('1 image · 12 folders', 'no images')
    """
    said = [
        f"{count(number)}+ {word}s" if number >= 10_000 else counted(number, word)
        for number, word in ((images, "image"), (folders, "folder"))
        if number
    ]
    return " · ".join(said) or "no images"
