"""What Opsin keeps on the disk to be quick, and how to remove it."""

from __future__ import annotations

import asyncio
from typing import Final

from nicegui import ui

from opsin.core.format import file_size
from opsin.data.cache_contents import PARTS, CacheContents, Part, empty_cache, list_cache
from opsin.studio.parts import layout
from opsin.studio.parts.status_line import StatusLine

_WORDS: Final[dict[Part, str]] = {
    "sources": "Fetched datasets",
    "datasets": "Decoded images",
    "features": "Features of pretrained networks",
    "models": "Checks of classifiers and networks",
}


class CachePanel:
    """Shows how much each part of the cache takes, once it is unfolded."""

    def __init__(self) -> None:
        with ui.expansion("Disk space", on_value_change=self._fill).classes("op-more") as more:
            ui.label(
                "Kept so that a second look or training starts at once; made again when needed. "
                "Your images, datasets, runs and corrections are not part of it."
            ).classes("op-muted")
            self._list = ui.element("div")
            self._status = StatusLine()
        more.props('header-class="op-muted"')

    async def _fill(self) -> None:
        found = await asyncio.to_thread(list_cache)
        if self._list.is_deleted:
            return
        self._list.clear()
        with self._list:
            for part in PARTS:
                self._line(part, found)

    def _line(self, part: Part, found: CacheContents) -> None:
        size = found.sizes[part]
        with ui.element("div").classes("op-row"):
            ui.label(f"{_WORDS[part]}: {file_size(size)}")
            if size:
                button = layout.action("Remove", lambda: self._empty(part))
                button._props["aria-label"] = f"Remove: {_WORDS[part]}"

    async def _empty(self, part: Part) -> None:
        with self._status.errors():
            gone = await asyncio.to_thread(empty_cache, part)
            self._status.say(f"Removed {file_size(gone.bytes)}.")
        await self._fill()
