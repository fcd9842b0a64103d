"""Data: the sets, and ways to add one."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from nicegui import background_tasks, ui

from opsin.studio import words
from opsin.studio.pages import add_dataset
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout
from opsin.studio.parts.cache_panel import CachePanel
from opsin.studio.parts.paging import page_links, page_number
from opsin.studio.parts.restorable import restorable
from opsin.studio.parts.set_panel import SetPanel
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.parts.undo_button import Undo
from opsin.studio.state import Studio

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset

# Key of each way to add images, and its words.
_WAYS: Final = {
    "upload": "Upload",
    "folder": "Folder",
    "name": "Built-in",
    "empty": "Empty dataset",
}
# Sets on one page.
_PER: Final = 12
# Seconds that a page waits for the numbers of its sets.
_PATIENCE: Final = 0.3


async def data(
    studio: Studio, add: str = "upload", folder: str = "", page: str = "", sets: str = ""
) -> None:
    """Build it."""
    way = add if add in _WAYS else "upload"
    with layout.page(studio, "Data", "/data", guide="how-to/data.html"):
        undo = Undo()
        await _Sets(studio, page_number(sets), undo).build()
        with layout.panel("Add images").props("id=add"):
            with ui.element("nav").classes("op-tabs").props('aria-label="Ways to add"'):
                for key, word in _WAYS.items():
                    link = ui.link(word, f"/data?add={key}#add")
                    if key == way:
                        link.props('aria-current="page"')
            match way:
                case "upload":
                    await add_dataset.by_upload(studio)
                case "folder":
                    await add_dataset.by_folder(studio, folder, page_number(page))
                case "name":
                    add_dataset.by_name(studio)
                case "empty":
                    add_dataset.empty(studio)
        CachePanel()


PAGE = Page("/data", data, nav="Data", order=20)


class _Sets:
    """All sets as panels, kept as they are in all windows."""

    def __init__(self, studio: Studio, page: int, undo: Undo) -> None:
        self._studio, self._undo = studio, undo
        self._wanted = page
        self._panels: dict[str, SetPanel] = {}
        self._asked = 0

    async def build(self) -> None:
        """Show the sets, and whatever becomes of them."""
        self._status = StatusLine()
        self._list = ui.element("div")
        self._removed = ui.element("div")
        await self._show()
        self._studio.changed.subscribe(self._changed)

    async def _show(self) -> None:
        self._asked += 1
        asked = self._asked
        sets = await asyncio.to_thread(self._studio.sets.all)
        removed = await asyncio.to_thread(self._studio.sets.removed)
        if asked < self._asked:  # something else has changed meanwhile, and is shown by then
            return
        self._list.clear()
        self._panels = {}
        page = min(self._wanted, max(1, math.ceil(len(sets) / _PER)))
        with self._list:
            if not sets:
                layout.empty(
                    "Your datasets appear here: folders, uploads and built-in ones. Add one below."
                )
            elif len(sets) > 2:  # what is below is out of sight then
                with ui.element("div").classes("op-actions"):
                    ui.link("Add images", "#add").classes("op-button")
            with ui.element("div").classes("op-columns op-sets"):
                for each in sets[(page - 1) * _PER : page * _PER]:
                    self._panels[each.id] = SetPanel(self._studio, each, self._remove)
            if len(sets) > _PER:
                page_links("/data?sets=", page, len(sets), _PER)
        self._removed.clear()
        if removed:
            items = [(each.token, each.name, each.when) for each in removed]
            with self._removed:
                restorable("Removed datasets", items, self._restore)
        filling = background_tasks.create(self._fill([*self._panels.values()]))
        # Mostly they are known at once; then nothing moves under a hand that clicks.
        await asyncio.wait([filling], timeout=_PATIENCE)

    async def _fill(self, panels: list[SetPanel]) -> None:
        """Count all at once: a folder of many files takes its time."""
        await asyncio.gather(*(panel.fill() for panel in panels))

    async def _changed(self, topic: str) -> None:
        kind, _, of = topic.partition(":")
        if topic == "sets":
            await self._show()
        elif kind == "set" and of in self._panels:
            await self._panels[of].fill()
        elif topic == "jobs":
            await self._fill([panel for panel in self._panels.values() if panel.looking])

    async def _remove(self, the_set: LibraryDataset) -> None:
        with self._status.errors():
            token = await asyncio.to_thread(self._studio.sets.remove, the_set.id)
            self._studio.opened.forget(the_set.id)
            title = words.safe(the_set.title, 80)
            self._undo.offer(f"Removed: {title}", lambda: self._bring_back(token))
            self._studio.changed.emit("sets")

    async def _restore(self, token: str) -> None:
        """Bring a set back, and show a refusal where the list is."""
        with self._status.errors():
            await self._bring_back(token)

    async def _bring_back(self, token: str) -> None:
        the_set = await asyncio.to_thread(self._studio.sets.restore, token)
        self._studio.opened.forget(the_set.id)
        self._studio.changed.emit("sets")
