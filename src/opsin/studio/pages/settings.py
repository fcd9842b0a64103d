"""Settings: what the studio keeps on the disk, and how to free it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
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
    """Build the page, which is measured anew after each change."""
    with page(studio, "Settings"):
        status = kit.StatusLine()
        content = ui.element("div").classes("stack")

    async def show() -> None:
        sizes, removed = await asyncio.to_thread(_measure, studio)
        if content.is_deleted:
            return
        content.clear()
        with content:
            kit.heading("Disk")
            shown = ("Free", "Your photos", "Your classifiers")
            kit.facts((name, file_size(sizes[name])) for name in shown)
            kit.heading("Kept for speed")
            kit.note("Made or downloaded again when it is needed.")
            for part in PARTS:
                work = partial(empty, part) if sizes[part] else None
                _line(_PARTS[part], sizes[part], "Free the space", work)
            kit.heading("Recently removed")
            if removed:
                kit.note("You can restore it on the first page for seven days.")
                text = counted(removed, "project or classifier", "projects and classifiers")
                _line(text, sizes["trash"], "Delete permanently", delete, kind="danger")
            else:
                kit.note("Nothing was removed in the last seven days.")

    async def change(work: Callable[[], object], words: str) -> None:
        with status.errors():
            require("owner")
            await asyncio.to_thread(work)
            await asyncio.to_thread(record, words)
            status.say("The space is free.")
            studio.changed.emit("sets")

    async def empty(part: Part) -> None:
        await change(partial(empty_cache, part), f"freed the space of: {_PARTS[part].lower()}")

    async def delete() -> None:
        text = "What was removed, with its photos and classifiers, cannot be restored afterwards."
        if await kit.confirm(text, "Delete permanently", title="Delete permanently?"):
            await change(partial(studio.sweep, 0.0), "deleted permanently what had been removed")

    async def changed(topic: str) -> None:
        if topic in {"sets", "runs"}:
            await show()

    studio.changed.subscribe(changed)
    await show()


PAGE = Page("/settings", settings, more="Settings")


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
