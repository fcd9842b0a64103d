"""What is being done, and how far."""

from __future__ import annotations

from typing import Final

from nicegui import ui

from opsin.core.format import count
from opsin.studio.words import safe

CSS: Final = """
.op-waiting { display: flex; flex-wrap: wrap; gap: .4rem .9rem; align-items: center;
  margin: .6rem 0; color: var(--muted); }
.op-waiting progress { flex: 0 1 16rem; min-width: 6rem; height: .6rem;
  accent-color: var(--accent); }
"""


class WaitingLine:
    """A line with a bar for work that can be left and come back to.

    Args:
        text: What is done.

    Example:
        ``with holder: waiting = Waiting("Computing")``, then
        ``waiting.tell("Units of conv1", 1200, 54000)``
    """

    def __init__(self, text: str) -> None:
        with ui.element("div").classes("op-waiting").props('role="status"'):
            self._bar = ui.element("progress")
            self._bar._props["aria-label"] = safe(text)
            self._label = ui.label(safe(text))

    def tell(self, what: str, done: int = 0, total: int = 0) -> None:
        """Show the progress; a total of 0 is unknown."""
        if self._bar.is_deleted:
            return
        if total:
            self._bar._props["max"] = total
            self._bar._props["value"] = min(done, total)
            self._label.set_text(f"{safe(what)}: {count(done)} of {count(total)}")
        else:
            self._bar._props.pop("value", None)
            self._label.set_text(safe(what[:1].upper() + what[1:]))
        self._bar.update()
