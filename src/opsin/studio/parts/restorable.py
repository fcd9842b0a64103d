"""What was removed and can still be brought back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nicegui import ui

from opsin.core.format import ago, count, day
from opsin.studio.trash import KEPT
from opsin.studio.words import safe

# Rows that are shown: a page of hundreds of elements takes seconds.
_SHOWN: Final = 50


def restorable(
    title: str, items: Sequence[tuple[str, str, float]], restore: Callable[[str], Awaitable[None]]
) -> ui.expansion:
    """Show what was removed, folded away, each with a button that brings it back.

    Args:
        title: What these are: ``Deleted runs``.
        items: Token, name and moment of removal (seconds since 1970) of each, the last one first.
        restore: Brings one back; it is given the token.

    Returns:
        The fold, to which more can be added.
    """
    with ui.expansion(f"{title} ({count(len(items))})").props("dense") as fold:
        ui.label("They are kept for a week, then deleted permanently.").classes("op-muted")
        if len(items) > _SHOWN:
            ui.label(f"The last {_SHOWN} are shown.").classes("op-muted")
        for token, name, when in items[:_SHOWN]:
            with ui.element("div").classes("op-row"):
                ui.label(safe(name, 80))
                words = f"removed {ago(when)}, kept until {day(when + KEPT)}"
                ui.label(words).classes("op-muted")
                button = ui.button("Restore", on_click=lambda token=token: restore(token))
                button.props("outline dense padding='0 .7rem'")
                button._props["aria-label"] = f"Restore {safe(name, 80)}"
    return fold
