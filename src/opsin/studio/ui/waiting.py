"""Work that takes a while: what is done, how far, how long still, and a way to stop it."""

from __future__ import annotations

import time

from nicegui import ui

from opsin.core.format import about
from opsin.studio.ui.kit import Handler, action
from opsin.studio.words import safe


class Waiting:
    """A line with a bar; ``on_stop`` gives it a button."""

    def __init__(self, text: str, on_stop: Handler | None = None) -> None:
        self._what, self._since = "", 0.0
        with ui.element("div").classes("waiting").props('role="status"') as self.element:
            self._label = ui.label(safe(text))
            self._bar = ui.linear_progress(show_value=False).props("indeterminate")
            self._bar.props["aria-label"] = safe(text)
            if on_stop:
                action("Stop", on_stop).props("dense")

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """Show the progress; a total of 0 is unknown."""
        if self.element.is_deleted:
            return
        if what != self._what:
            self._what, self._since = what, time.monotonic()
        spent, left = time.monotonic() - self._since, ""
        if done and total and spent > 1:
            left = f" · {about(spent * (total - done) / done)} left"
        self._bar.props["indeterminate"] = not total
        self._bar.set_value(min(1.0, done / total) if total else 0.0)
        self._label.set_text(safe(what[:1].upper() + what[1:] + left))

    def delete(self) -> None:
        """Take it away."""
        if not self.element.is_deleted:
            self.element.delete()
