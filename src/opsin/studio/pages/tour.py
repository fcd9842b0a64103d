"""The tour's addresses: each leads to the page of a step."""

from __future__ import annotations

import asyncio

from nicegui import ui
from starlette.responses import RedirectResponse

from opsin.studio.errors import NotThere
from opsin.studio.pages.page import Page
from opsin.studio.state import Studio
from opsin.studio.tour import COOKIE, KEPT, STEPS, TourState, address_of


async def tour(studio: Studio, step: str) -> RedirectResponse:
    """Go to a step, ``1`` to ``8``, or with ``on`` to the one where the visitor left."""
    request = ui.context.client.request
    at = step
    if step == "on":
        at = str(TourState.of(request.cookies.get(COOKIE, "")).step or 1)
    if at not in map(str, range(1, len(STEPS) + 1)):
        raise NotThere(f"The tour has steps 1 to {len(STEPS)}, not {step:.20}", "Begin at /.")
    reply = RedirectResponse(await asyncio.to_thread(address_of, studio, int(at)), 303)
    reply.set_cookie(COOKIE, at, max_age=KEPT, samesite="lax")
    return reply


PAGE = Page("/tour/{step}", tour)
