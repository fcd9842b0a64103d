"""What a page of the studio is: an address, what builds it, its place in the navigation; errors."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from nicegui import Client, app, ui
from starlette.exceptions import HTTPException

from opsin.core.errors import OpsinError
from opsin.studio import pages
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.people import Role, require
from opsin.studio.ui import kit, layout
from opsin.web.refusals import RequestError

_LOG = logging.getLogger("opsin.studio")


@dataclass(frozen=True)
class Page:
    """A page: decorates what builds it from the studio and, by name, the address's parameters."""

    path: str  # with parameters in braces, such as ``/runs/{run_id}``
    more: str = ""  # its word in the menu *More*; with ``{project}`` in the path, of projects
    needs: Role = "viewer"  # who may open it
    build: Callable[..., Awaitable[Any] | Any] = print

    def __call__(self, build: Callable[..., Awaitable[Any] | Any]) -> Page:
        """The page that a function builds."""
        return replace(self, build=build)

    def register(self, studio: Studio) -> None:
        """Answer to its address in the application."""
        signature = inspect.signature(self.build, eval_str=True)
        _, *parameters = signature.parameters.values()

        @functools.wraps(self.build)
        async def shown(*args: Any, **named: Any) -> Any:
            if self.path != "/":  # which shows at once, and fills itself
                await studio.first_scan()
            require(self.needs)
            built = self.build(studio, *args, **named)
            return await built if inspect.isawaitable(built) else built

        # What FastAPI reads the parameters of the address from: all but the studio.
        shown.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        ui.page(self.path, response_timeout=30.0)(shown)  # at the first scan of many runs


def all_pages() -> list[Page]:
    """Return the pages of the modules of `opsin.studio.pages`."""
    names = (module.name for module in pkgutil.iter_modules(pages.__path__))
    modules = [importlib.import_module(f"{pages.__name__}.{name}") for name in names]
    found = {item for module in modules for item in vars(module).values() if isinstance(item, Page)}
    return sorted(found, key=lambda page: page.path)


@Page("/projects/{project}/")
def _project(studio: Studio, project: str) -> RedirectResponse:
    """Lead to the results of a project, or to its photographs as long as it has none."""
    known = studio.projects.get(project)
    page = "results" if known.classifiers else "photos"
    return RedirectResponse(layout.address(known, page), 303)


def add_error_pages(studio: Studio) -> None:
    """Register what is shown where an address leads to nothing, and at faults of ours."""

    def shown(request: Request, title: str, error: OpsinError | str, status: int) -> Response:
        with Client(ui.page(""), request=request) as client, layout.page(studio, title) as frame:
            with frame.actions:
                kit.link_button("Your projects", "/", kind="primary")
            kit.error_line(error)
            if status == 404:
                kit.note("If it was removed, you can restore it on the first page.")
        return client.build_response(request, status)

    @app.exception_handler(OpsinError)
    async def refused(request: Request, error: OpsinError) -> Response:
        title = "Not found" if isinstance(error, NotThere) else "Not possible now"
        status = error.status if isinstance(error, RequestError) else 500
        return shown(request, title, error, status)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(404)
    async def unknown(request: Request, error: Exception) -> Response:
        own = request.scope.get("endpoint") in (None, app)
        if isinstance(error, HTTPException) and not own:
            return await http_exception_handler(request, error)  # a script that is missing, say
        nothing = NotThere("There is nothing at this address", "Go back to your projects.")
        return shown(request, "Not found", nothing, 404)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        if not request.scope.get("nicegui_page_path"):
            raise error
        _LOG.error("the page %s cannot be shown", request.url.path, exc_info=error)
        return shown(request, "Error in the studio", kit.FAULT, 500)
