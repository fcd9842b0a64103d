"""Removed projects and classifiers, which can be restored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.format import ago, count, day
from opsin.studio.trash import KEPT, Removed
from opsin.studio.ui import kit
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

# Rows that are shown: a page of hundreds of elements takes seconds.
_SHOWN: Final = 50


def removed_list(studio: Studio, removed: Sequence[Removed], *, is_open: bool = False) -> None:
    """Show what was removed, folded, each with a button that restores it."""

    def build() -> None:
        kit.note("What you remove can be restored for seven days.")
        status = kit.StatusLine()
        for item in removed[:_SHOWN]:
            with ui.element("div").classes("line"):
                name = safe(item.name, 80)
                ui.label(name)
                kit.note(f"removed {ago(item.when)}, kept until {day(item.when + KEPT)}")
                button = kit.action("Restore", lambda token=item.token: restore(token, status))
                button.props["aria-label"] = f"Restore {name}"

    async def restore(token: str, status: kit.StatusLine) -> None:
        with status.errors():
            await asyncio.to_thread(studio.projects.restore, token)
            studio.changed.emit("runs")
            studio.changed.emit("sets")

    kit.question(f"Recently removed ({count(len(removed))})", build, is_open=is_open)
