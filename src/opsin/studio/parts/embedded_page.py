"""Pages from inside a run, and figures."""

from __future__ import annotations

from typing import Final

from nicegui import ui

CSS: Final = """
.op-inside { display: block; width: 100%; height: max(34rem, calc(100vh - 9rem));
  border: 1px solid var(--line); border-radius: .7rem; background: var(--paper); }
.op-lessons { gap: .2rem 1.2rem; margin-bottom: .8rem; }
.op-lessons a[aria-current] { color: var(--ink); font-weight: 650; text-decoration: none; }
.op-looked { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: center; }
.op-looked img { width: 96px; height: 96px; object-fit: contain; background: var(--panel);
  border-radius: 3px; }
.op-tried { display: flex; flex-wrap: wrap; gap: .8rem; margin: 0 0 .8rem; }
.op-tried figure { margin: 0; width: 13rem; max-width: 100%; }
.op-tried img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--panel);
  border: 1px solid var(--line); border-radius: 4px; display: block; }
.op-tried figcaption { color: var(--muted); font-size: .85rem; margin-top: .25rem;
  overflow-wrap: anywhere; }
.op-below { margin-bottom: 1rem; }
.op-answer { font-size: 1.5rem; font-weight: 650; margin: 0 0 .3rem; overflow-wrap: anywhere; }
"""


def framed(address: str, title: str, place: str = "") -> ui.element:
    """Show a page that a worker wrote, which may run its own scripts and reach nothing of ours.

    Args:
        address: Of `opsin.studio.runs.inspection_sessions.Said`.
        title: What it shows.
        place: The section that comes first into sight.
    """
    page = ui.element("iframe").classes("op-inside").props('sandbox="allow-scripts"')
    page._props["title"] = title
    page._props["src"] = address if not place else f"{address}#{place}"
    return page


def figure(address: str, alt: str, caption: str) -> ui.element:
    """Show an image enlarged, with a line below it.

    Args:
        address: One of ours.
        alt: What is on it.
        caption: The line; made safe already.
    """
    with ui.element("figure") as element:
        image = ui.element("img").classes("op-pixel").props('loading="lazy"')
        image._props["alt"] = alt
        image._props["src"] = address
        with ui.element("figcaption"):
            ui.label(caption)
    return element
