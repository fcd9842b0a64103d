"""How much of a whole training is done."""

from __future__ import annotations

from typing import Final

from nicegui import ui

from opsin.studio.words import safe

CSS: Final = """
.op-whole { width: 100%; height: .5rem; margin: .45rem 0 .1rem; display: block;
  accent-color: var(--accent); border: 0; border-radius: .25rem; background: var(--line);
  appearance: none; overflow: hidden; }
.op-whole::-webkit-progress-bar { background: transparent; }
.op-whole:not([value]) { background: linear-gradient(90deg, var(--line) 42%, var(--bar) 50%,
  var(--line) 58%) 0 0 / 250% 100%; animation: op-busy 2s linear infinite; }
@keyframes op-busy { from { background-position: 100% 0; } to { background-position: -66% 0; } }
@media (prefers-reduced-motion: reduce) { .op-whole:not([value]) { animation: none; } }
.op-whole::-webkit-progress-value { background: var(--accent); }
.op-whole::-moz-progress-bar { background: var(--accent); }
"""


class ProgressBar:
    """The one bar that every page shows of a training.

    Args:
        title: The training, as people call it.

    Example:
        ``bar = ProgressBar("digits, mlp")``, then ``bar.show(0.25)``
    """

    def __init__(self, title: str) -> None:
        self.element = ui.element("progress").classes("op-whole").props("max=1")
        self.element._props["aria-label"] = f"Progress of {safe(title, 80)}"

    def show(self, share: float | None) -> None:
        """Show how much is done, 0 to 1, or that something is done where that is not known."""
        value = None if share is None else round(share, 3)
        if self.element._props.get("value") == value:
            return
        if value is None:
            self.element._props.pop("value", None)
        else:
            self.element._props["value"] = value
        self.element.update()
