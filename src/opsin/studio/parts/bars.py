"""Classes with their probabilities as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nicegui import ui

from opsin.core.format import percent
from opsin.studio.words import safe

CSS: Final = """
.op-bars { display: grid; gap: .18rem .7rem; align-items: center; margin: .5rem 0 .8rem;
  max-width: 34rem;
  grid-template-columns: minmax(0, max-content) minmax(5rem, 1fr) max-content; }
.op-bars dt { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 14rem; }
.op-bars dd { margin: 0; }
.op-bars .op-bar { height: .85rem; border-radius: 2px; background: var(--bar); min-width: 1px; }
.op-bars .op-bar-best { background: var(--accent); }
.op-bars .op-share { text-align: right; color: var(--muted); font-size: .9rem; }
.op-bars .op-best { font-weight: 600; color: var(--ink); }
"""


def bars(shares: Sequence[tuple[str, float]], label: str) -> ui.element:
    """Show classes with their probabilities, the first one as the answer.

    Args:
        shares: Names and probabilities, 0 to 1, the largest first.
        label: What they are of, for those who cannot see them.

    Example:
        ``bars(prediction.top(), "Probabilities of boot.png")``
    """
    with ui.element("dl").classes("op-bars") as element:
        element._props["aria-label"] = safe(label)
        for place, (name, share) in enumerate(shares):
            best = "op-best" if place == 0 else ""
            with ui.element("dt").classes(best) as title:
                ui.label(safe(name, 60))
            title._props["title"] = safe(name)
            with ui.element("dd").props("aria-hidden=true"):
                bar = ui.element("div").classes("op-bar" if place else "op-bar op-bar-best")
                bar.style(f"width: {100 * min(max(share, 0.0), 1.0):.2f}%")
            with ui.element("dd").classes(f"op-share {best}"):
                ui.label(percent(share))
    return element
