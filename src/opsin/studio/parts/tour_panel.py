"""The tour's panel, beside what it is about."""

from __future__ import annotations

from typing import Final

from nicegui import ui
from nicegui.element import Element

from opsin.studio.tour import COOKIE, KEPT, STEPS, TourState

CSS: Final = """
.op-tour { position: absolute; inset: auto; margin: 0; box-sizing: border-box; z-index: 15;
  width: min(22rem, calc(100vw - 1.5rem)); padding: .9rem 1.1rem; border: 1px solid var(--accent);
  border-radius: .7rem; background: var(--paper); color: var(--ink); overflow: visible;
  box-shadow: 0 .4rem 1.6rem rgb(0 0 0 / .18); font-size: .96rem; line-height: 1.5; }
.op-tour.op-tour-loose { position: fixed; right: .75rem; bottom: .75rem; }
.op-tour:focus { outline: none; }
.op-tour-under::before { content: ""; position: absolute; width: .7rem; height: .7rem;
  rotate: 45deg; background: var(--paper); border: solid var(--accent); border-width: 1px 0 0 1px;
  top: -.42rem; left: 1.4rem; }
.op-tour p { margin: 0 0 .5rem; }
.op-tour h2 { font-size: 1rem; font-weight: 650; line-height: 1.4; margin: 0 0 .2rem; }
.op-tour .op-actions { margin: .5rem 0 0; gap: .5rem 1rem; }
.op-tour .op-actions a:not(.op-button) { color: var(--right); }
.op-tour button { font: inherit; border: 0; margin-left: auto; cursor: pointer; }
.op-tour button:not(.op-button) { color: var(--muted); background: none; padding: .3rem;
  text-decoration: underline; }
.op-toured { outline: 2px solid var(--accent); outline-offset: 6px; border-radius: .4rem; }
.op-tour-link { margin-left: auto; color: var(--muted); font-size: .9rem; text-decoration: none; }
.op-tour-link:hover { text-decoration: underline; }
.op-queue-line:not(.hidden) + .op-tour-link { margin-left: 0; }
@media (max-width: 40rem) { .op-brand { order: -2; } .op-header .op-queue-line + .op-tour-link {
  order: -1; margin-left: auto; } }
"""


class TourPanel(Element, component="tour_panel.js"):
    """One step: what it is about, with a frame around it, and the ways back, on and out.

    Args:
        step: From 1.
        address: Where the visitor is, with the query.
    """

    def __init__(self, step: int, address: str) -> None:
        super().__init__()
        chosen, last = STEPS[step - 1], step == len(STEPS)
        here, waits = chosen.is_at(address), address.partition("?")[0] == chosen.missing_at
        text = chosen.text if here else chosen.missing if waits else ""
        self._props.update(
            heading=chosen.title,
            text=text or "You are on another page. The tour goes on where you left it.",
            at=f"Step {step} of {len(STEPS)}",
            target=chosen.points_at if here else "",
            back=f"/tour/{step - 1}" if step > 1 else "",
            next=f"/tour/{step}" if not here else "" if last else f"/tour/{step + 1}",
            label="Next" if here else "Go on",
            leave="Finish" if last and here else "Leave",
            # A tour that was finished begins anew.
            cookie=f"{COOKIE}={'' if last and here else f'left-{step}'};path=/;max-age={KEPT}",
        )


def show() -> None:
    """Show the panel where the visitor is on the tour, and the way to it in the header."""
    request = ui.context.client.request
    state = TourState.of(request.cookies.get(COOKIE, ""))
    if state.is_open:
        query = f"?{request.url.query}" if request.url.query else ""
        TourPanel(state.step, request.url.path + query)


def link() -> None:
    """Offer the tour, or its next step where the visitor has left it."""
    step = TourState.of(ui.context.client.request.cookies.get(COOKIE, "")).step
    words = f"Continue the tour (step {step} of {len(STEPS)})" if step else "Take the tour"
    ui.link(words, "/tour/on")
