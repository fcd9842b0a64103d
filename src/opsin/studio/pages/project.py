"""The address of a project itself, and the addresses of earlier versions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fastapi import Request
from fastapi.responses import RedirectResponse
from nicegui import app

from opsin.studio.context import Studio
from opsin.studio.pages.page import Page
from opsin.studio.ui.layout import address

#: Addresses of earlier versions, and the project's page that is there now.
OLD: Final = {
    "/data": "",
    "/data/{set}": "photos",
    "/queue": "",
    "/train": "train",
    "/try": "try",
    "/runs/{run}": "results",
    "/runs/{run}/inside": "inside",
}


def project_page(studio: Studio, project: str) -> RedirectResponse:
    """Lead to the results of a project, or to its photos as long as it has none."""
    known = studio.projects.get(project)
    return RedirectResponse(address(known, "results" if known.classifiers else "photos"), 303)


PAGE = Page("/projects/{project}/", project_page)


def add_old_addresses(studio: Studio, paths: Collection[str]) -> None:
    """Lead on from the addresses of earlier versions that no page has now."""

    async def lead_on(request: Request) -> RedirectResponse:
        await studio.first_scan()
        asked = {**request.query_params, **request.path_params}
        page = OLD[request.scope["route"].path]
        key = "from" if page == "train" else "run"
        if run := asked.get(key):
            return RedirectResponse(address(studio.projects.of_run(run), page, **{key: run}), 303)
        if known := asked.get("set"):
            return RedirectResponse(address(studio.projects.get(known), page), 303)
        return RedirectResponse("/jobs" if request.scope["route"].path == "/queue" else "/", 303)

    shapes = {_shape(path) for path in paths}
    for path in OLD:
        if _shape(path) not in shapes:
            app.get(path)(lead_on)


def _shape(path: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
