"""Addresses that lead to nothing; faults of ours."""

from __future__ import annotations

import logging
from http import HTTPStatus

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
            if status == HTTPStatus.NOT_FOUND:
                kit.note("If it was removed, you can restore it on the first page.")
        return client.build_response(request, status)

    @nicegui_app.exception_handler(OpsinError)
    async def refused(request: Request, error: OpsinError) -> Response:
        gone = isinstance(error, NotThere)
        status = HTTPStatus.NOT_FOUND if gone else HTTPStatus.INTERNAL_SERVER_ERROR
        return shown(request, "Not found" if gone else "Not possible now", error, status)

    @nicegui_app.exception_handler(HTTPStatus.NOT_FOUND)
    async def unknown(request: Request, error: HTTPException) -> Response:
        if request.scope.get("endpoint") not in (None, nicegui_app):
            return await http_exception_handler(request, error)  # a script that is missing, say
        return shown(request, "Not found", _nowhere(), HTTPStatus.NOT_FOUND)

    @nicegui_app.exception_handler(RequestValidationError)
    async def garbled(request: Request, _: RequestValidationError) -> Response:
        return shown(request, "Not found", _nowhere(), HTTPStatus.NOT_FOUND)

    @nicegui_app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        if not request.scope.get("nicegui_page_path"):
            raise error
        _LOG.error("the page %s cannot be shown", request.url.path, exc_info=error)
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return shown(request, "Error in the studio", kit.fault_in_words(), status)


def _nowhere() -> NotThere:
    return NotThere("There is nothing at this address", "Go back to your projects.")
