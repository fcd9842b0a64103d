"""Something was taken away; here it comes back."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.studio.words import safe

CSS: Final = """
.op-undo { position: fixed; left: 50%; bottom: 1rem; transform: translateX(-50%); z-index: 20;
  display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; box-sizing: border-box;
  max-width: min(44rem, calc(100vw - 1.6rem)); width: max-content; padding: .5rem .6rem .5rem 1rem;
  background: var(--ink); color: var(--paper); border-radius: .6rem; overflow-wrap: anywhere; }
.op-undo .q-btn { color: var(--paper) !important; }
.op-undo .q-btn--outline::before { border-color: var(--muted) !important; }
"""


class Undo:
    """A line at the page's foot that says what was done and takes it back in one click.

    It stays until it is used, closed, or something else was done. Made once a page, at the end of
    what the page shows.
    """

    def __init__(self) -> None:
        # There from the start: screen readers tell only what changes inside.
        self._place = ui.element("div").props('role="status"')

    def offer(self, text: str, undo: Callable[[], Awaitable[object] | object]) -> None:
        """Say what was done.

        Args:
            text: What was done: ``Deleted 2 runs``.
            undo: Takes it back; an `OpsinError` of it is shown here.
        """

        async def take_back() -> None:
            try:
                done = undo()
                if inspect.isawaitable(done):
                    await done
            except OpsinError as error:
                label.set_text(safe(str(error), 600))
                button.set_visibility(False)
            else:
                self.close()

        self._place.clear()
        with self._place, ui.element("div").classes("op-undo"):
            label = ui.label(safe(text))
            button = ui.button("Undo", color=None, on_click=take_back).props(
                "outline dense padding='0 .8rem'"
            )
            ui.button("Close", color=None, on_click=self.close).props(
                "flat dense padding='0 .5rem'"
            )

    def close(self) -> None:
        """Take the line away."""
        self._place.clear()
