"""Settings: what the studio keeps on the disk, and how to free it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from functools import partial

from nicegui import ui

from opsin.core.format import file_size
from opsin.data.cache_contents import empty_cache, list_cache, size_of
from opsin.studio.context import Studio
from opsin.studio.pages.page import Page
from opsin.studio.people import record, require
from opsin.studio.ui import kit
from opsin.studio.ui.layout import page


@Page("/settings", more="Settings", needs="owner")
async def settings(studio: Studio) -> None:
    """Build the page, which is measured anew after each change."""
    with page(studio, "Settings"), ui.element("div").classes("stack"):
        facts = ui.element("div")
        kit.note(
            "What is kept for speed is made or downloaded again when it is needed. What was "
            "removed can be restored on the first page for seven days."
        )
        status = kit.StatusLine()

        async def show() -> None:
            sizes = await asyncio.to_thread(_sizes, studio)
            if not facts.is_deleted:
                facts.clear()
                with facts:
                    kit.facts((name, file_size(size)) for name, size in sizes.items())

        async def free(work: Callable[[], object], change: str) -> None:
            with status.errors():
                require("owner")
                await asyncio.to_thread(work)
                await asyncio.to_thread(record, change)
                status.say("The space is free.")
                studio.changed.emit("sets")

        async def delete() -> None:
            text = "Removed projects, photographs and classifiers can then no longer be restored."
            with kit.dialog("Delete permanently?") as asked:
                ui.label(text)
                if not await kit.submitted(asked, "Delete permanently", "danger"):
                    return
            await free(partial(studio.sweep, 0.0), "deleted permanently what had been removed")

        with ui.element("div").classes("line"):
            empty = partial(free, empty_cache, "deleted what was kept for speed")
            kit.action("Delete what is kept for speed", empty)
            kit.action("Delete permanently what was removed", delete, kind="danger")
        studio.changed.subscribe(show, "sets", "runs")
        await show()


def _sizes(studio: Studio) -> dict[str, int]:
    home, runs = studio.settings.home, studio.settings.runs
    removed, removed_runs = size_of(home / "sets" / ".deleted"), size_of(runs / ".deleted")
    return {
        "Free": shutil.disk_usage(home).free,
        "Your photographs": size_of(home / "sets") - removed,
        "Your classifiers": size_of(runs) - removed_runs,
        "Kept for speed": list_cache().bytes,
        "Removed": removed_runs + removed,
    }
