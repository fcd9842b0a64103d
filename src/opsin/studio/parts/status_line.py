"""Messages and errors of what was started on a page, where it was started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.studio.parts import layout
from opsin.studio.words import safe

# Characters of a message.
_MOST: Final = 400


class StatusLine:
    """Shows the last message or error of what was started beside it; screen readers read it out."""

    def __init__(self) -> None:
        self.element = ui.element("div").classes("op-state-line").props('role="status"')

    def clear(self) -> None:
        """Show nothing."""
        if not self.element.is_deleted:
            self.element.clear()

    def say(self, text: str) -> None:
        """Show a message in place of the last one."""
        self.clear()
        if not self.element.is_deleted:
            with self.element:
                ui.label(safe(text, _MOST)).classes("op-muted")

    def fail(self, error: OpsinError | str) -> None:
        """Show an error in place of the last message."""
        self.clear()
        self.add_error(error)

    def add_error(self, error: OpsinError | str) -> None:
        """Show an error below what is shown."""
        if not self.element.is_deleted:
            with self.element:
                layout.error_line(error)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Clear the line, and show an `OpsinError` of the block, which ends there."""
        self.clear()
        try:
            yield
        except OpsinError as error:
            self.add_error(error)
