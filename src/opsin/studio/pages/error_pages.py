"""Addresses that lead to nothing; faults of ours."""

from __future__ import annotations

import logging

from fastapi import Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from nicegui import Client, ui
from nicegui import app as nicegui_app
from starlette.exceptions import HTTPException

from opsin.core.errors import OpsinError
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.ui import kit
from opsin.studio.ui.layout import page

_LOG = logging.getLogger("opsin.studio")


def add(studio: Studio) -> None:
    """Register what is shown instead of a page that cannot be."""

    def shown(request: Request, title: str, error: OpsinError | str, status: int) -> Response:
        with Client(ui.page(""), request=request) as client, page(studio, title) as frame:
            with frame.actions:
                kit.link_button("Your projects", "/", kind="primary")
            kit.error_line(error)
            if status == 404:
                kit.note("If it was removed, you can restore it on the first page.")
        return client.build_response(request, status)

    @nicegui_app.exception_handler(OpsinError)
    async def refused(request: Request, error: OpsinError) -> Response:
        if isinstance(error, NotThere):
            return shown(request, "Not found", error, 404)
        return shown(request, "Not possible now", error, 500)

    @nicegui_app.exception_handler(RequestValidationError)
    @nicegui_app.exception_handler(404)
    async def unknown(request: Request, error: Exception) -> Response:
        own = request.scope.get("endpoint") in (None, nicegui_app)
        if isinstance(error, HTTPException) and not own:
            return await http_exception_handler(request, error)  # a script that is missing, say
        nothing = NotThere("There is nothing at this address", "Go back to your projects.")
        return shown(request, "Not found", nothing, 404)

    @nicegui_app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        if not request.scope.get("nicegui_page_path"):
            raise error
        _LOG.error("the page %s cannot be shown", request.url.path, exc_info=error)
        return shown(request, "Error in the studio", kit.FAULT, 500)
