"""Settings: what the studio keeps on the disk, and how to free it."""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from typing import Final

from nicegui import ui

from opsin.core.format import counted, file_size
from opsin.data.cache_contents import PARTS, Part, empty_cache, list_cache
from opsin.studio.context import Studio
from opsin.studio.datasets.uploads import size_of
from opsin.studio.pages.page import Page
from opsin.studio.people import record, require
from opsin.studio.ui import kit
from opsin.studio.ui.layout import page

_PARTS: Final[dict[Part, str]] = {
    "sources": "Downloaded collections",
    "datasets": "Photos prepared for training",
    "features": "What pretrained networks saw in them",
    "models": "Checks of networks",
}


async def settings(studio: Studio) -> None:
    """Build the page."""
    with page(studio, "Settings"):
        content = _Settings(studio)
    await content.show()


PAGE = Page("/settings", settings, more="Settings")


class _Settings:
    """The page, measured anew after each change."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._status = kit.StatusLine()
        with ui.element("div").classes("stack") as self._content:
            kit.note("Measuring …")
        studio.changed.subscribe(self._changed)

    async def _changed(self, topic: str) -> None:
        if topic in {"sets", "runs"}:
            await self.show()

    async def show(self) -> None:
        """Measure, and show."""
        sizes, waiting = await asyncio.to_thread(_measure, self._studio)
        if self._content.is_deleted:
            return
        self._content.clear()
        with self._content:
            kit.heading("Disk")
            shown = ("Free", "Your photos", "Your classifiers")
            kit.facts((name, file_size(sizes[name])) for name in shown)
            kit.heading("Kept for speed")
            kit.note("Made or downloaded again when it is needed.")
            for part in PARTS:
                empty = partial(self._empty, part)
                _line(_PARTS[part], sizes[part], "Free the space", empty if sizes[part] else None)
            kit.heading("Recently removed")
            if waiting:
                kit.note("You can restore it on the first page for seven days.")
                text = counted(waiting, "project or classifier", "projects and classifiers")
                _line(text, sizes["trash"], "Delete permanently", self._delete, kind="danger")
            else:
                kit.note("Nothing was removed in the last seven days.")

    async def _empty(self, part: Part) -> None:
        with self._status.errors():
            require("owner")
            gone = await asyncio.to_thread(empty_cache, part)
            await asyncio.to_thread(record, f"freed the space of: {_PARTS[part].lower()}")
            self._status.say(f"Freed {file_size(gone.bytes)}.")
        await self.show()

    async def _delete(self) -> None:
        text = "What was removed, with its photos and classifiers, cannot be restored afterwards."
        if not await kit.confirm(text, "Delete permanently", title="Delete permanently?"):
            return
        with self._status.errors():
            await asyncio.to_thread(self._studio.sweep, 0.0)
            await asyncio.to_thread(record, "deleted permanently what had been removed")
            self._studio.changed.emit("sets")


def _line(
    text: str, size: int, button: str, work: kit.Handler | None, kind: kit.Kind = "plain"
) -> None:
    with ui.element("div").classes("line"):
        ui.label(f"{text}: {file_size(size)}")
        if work is not None:
            made = kit.action(button, work, kind=kind, needs="owner").props("dense")
            made.props["aria-label"] = f"{button}: {text}"


def _measure(studio: Studio) -> tuple[dict[str, int], int]:
    """Bytes on the disk, and the number of things in the trash."""
    home, runs = studio.settings.home, studio.settings.runs
    sizes = {
        "Free": shutil.disk_usage(next(p for p in (home, *home.parents) if p.is_dir())).free,
        "Your photos": size_of(home / "sets") - size_of(home / "sets" / ".deleted"),
        "Your classifiers": sum(row.disk_bytes for row in studio.runs.rows()),
        "trash": size_of(runs / ".deleted") + size_of(home / "sets" / ".deleted"),
        **list_cache().sizes,
    }
    return sizes, len(studio.projects.removed())
