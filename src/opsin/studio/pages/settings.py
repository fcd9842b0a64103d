"""Settings: what the studio keeps on the disk, and how to free it."""

from __future__ import annotations

import asyncio
import shutil
from typing import Final, NamedTuple

from nicegui import ui

from opsin.core.format import counted, file_size
from opsin.data.cache_contents import PARTS, Part, empty_cache, list_cache
from opsin.studio.datasets.uploads import size_of
from opsin.studio.pages import removed
from opsin.studio.pages.page import Page
from opsin.studio.people import record, require
from opsin.studio.state import Studio
from opsin.studio.ui import kit
from opsin.studio.ui.layout import page

_PARTS: Final[dict[Part, str]] = {
    "sources": "Downloaded collections",
    "datasets": "Photos prepared for training",
    "features": "What pretrained networks saw in them",
    "models": "Checks of networks",
}


class _Disk(NamedTuple):
    """Bytes on the disk."""

    free: int
    total: int
    photos: int
    classifiers: int
    parts: dict[str, int]
    trash: int
    removed: int  # number of items in the trash


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
        self._place = ui.element("div").classes("stack")
        with self._place:
            kit.note("Measuring …")
        studio.changed.subscribe(self._changed)

    async def _changed(self, topic: str) -> None:
        if topic in {"sets", "runs"}:
            await self.show()

    async def show(self) -> None:
        """Measure, and show."""
        disk = await asyncio.to_thread(_measure, self._studio)
        if self._place.is_deleted:
            return
        self._place.clear()
        with self._place:
            kit.heading("Disk")
            kit.facts([
                ("Free", f"{file_size(disk.free)} of {file_size(disk.total)}"),
                ("Your photos", file_size(disk.photos)),
                ("Your classifiers", file_size(disk.classifiers)),
            ])  # fmt: skip
            kit.heading("Kept to be quick")
            kit.note("Made again, or downloaded again, when it is needed.")
            for part in PARTS:
                self._line(_PARTS[part], disk.parts[part], lambda part=part: self._empty(part))
            kit.heading("Recently removed")
            if disk.removed:
                text = counted(disk.removed, "project or classifier", "projects and classifiers")
                kit.note("The first page restores them for seven days.")
                self._line(text, disk.trash, self._delete, "Delete permanently")
            else:
                kit.note("Nothing was removed in the last seven days.")

    def _line(
        self,
        text: str,
        size: int,
        work: kit.Handler,
        button: str = "Free it",
        on: bool | None = None,
    ) -> None:
        with ui.element("div").classes("line"):
            ui.label(f"{text}: {file_size(size)}")
            if size if on is None else on:
                made = kit.action(button, work, kind="plain" if on is None else "danger")
                made.props("dense").props["aria-label"] = f"{button}: {text}"

    async def _empty(self, part: Part) -> None:
        with self._status.errors():
            require("owner")
            gone = await asyncio.to_thread(empty_cache, part)
            await asyncio.to_thread(record, f"emptied a cache ({part})")
            self._status.say(f"Freed {file_size(gone.bytes)}.")
        await self.show()

    async def _delete(self) -> None:
        text = "What was removed, with its photos and classifiers, cannot be restored afterwards."
        if not await kit.confirm(text, "Delete permanently", title="Delete for good?"):
            return
        with self._status.errors():
            await asyncio.to_thread(self._studio.runs.sweep, 0.0)
            await asyncio.to_thread(self._studio.sets.sweep, 0.0)
            await asyncio.to_thread(record, "deleted for good what had been removed")
            self._studio.changed.emit("sets")


def _measure(studio: Studio) -> _Disk:
    home, runs = studio.settings.home, studio.settings.runs
    usage = shutil.disk_usage(next(path for path in (home, *home.parents) if path.is_dir()))
    return _Disk(
        free=usage.free,
        total=usage.total,
        photos=size_of(home / "pictures"),
        classifiers=sum(row.disk_bytes for row in studio.runs.rows()),
        parts={**list_cache().sizes},
        trash=size_of(runs / ".deleted") + size_of(home / "sets" / ".deleted"),
        removed=len(removed.list_removed(studio)),
    )
