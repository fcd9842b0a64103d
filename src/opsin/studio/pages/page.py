"""What a page of the studio is: an address, what builds it, and its place in the navigation."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from fastapi.responses import RedirectResponse
from nicegui import ui

from opsin.studio import pages
from opsin.studio.context import Studio
from opsin.studio.ui.layout import address


@dataclass(frozen=True)
class Page:
    """A page, as its module's ``PAGE`` describes it; `all_pages` finds it there."""

    path: str  # with parameters in braces, such as ``/runs/{run_id}``
    build: Callable[..., Awaitable[Any] | Any]  # from the studio and, by name, the parameters
    more: str = ""  # its word in the menu *More*; with ``{project}`` in the path, of projects

    def register(self, studio: Studio) -> None:
        """Answer to its address in the application."""
        signature = inspect.signature(self.build, eval_str=True)
        _, *parameters = signature.parameters.values()

        @functools.wraps(self.build)
        async def shown(*args: Any, **named: Any) -> Any:
            if self.path != "/":  # which shows at once, and fills itself
                await studio.first_scan()
            built = self.build(studio, *args, **named)
            return await built if inspect.isawaitable(built) else built

        # What FastAPI reads the parameters of the address from: all but the studio.
        shown.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        ui.page(self.path, response_timeout=30.0)(shown)  # at the first scan of many runs


def all_pages() -> list[Page]:
    """Return the pages that the modules of `opsin.studio.pages` describe."""
    names = (module.name for module in pkgutil.iter_modules(pages.__path__))
    modules = [importlib.import_module(f"{pages.__name__}.{name}") for name in names]
    found = {item for module in modules for item in vars(module).values() if isinstance(item, Page)}
    return sorted(found, key=lambda page: page.path)


def _project(studio: Studio, project: str) -> RedirectResponse:
    """Lead to the results of a project, or to its photographs as long as it has none."""
    known = studio.projects.get(project)
    return RedirectResponse(address(known, "results" if known.classifiers else "photos"), 303)


PAGE: Final = Page("/projects/{project}/", _project)
