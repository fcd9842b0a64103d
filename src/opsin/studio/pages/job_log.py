"""One job, until its run has a page."""

from __future__ import annotations

import json

from fastapi import Response
from fastapi.responses import RedirectResponse
from nicegui import ui

from opsin.studio.errors import NotThere
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout
from opsin.studio.parts.download_link import download_link
from opsin.studio.parts.job_line import JobLine, run_address
from opsin.studio.state import Studio


async def job(studio: Studio, id: str) -> Response | None:  # noqa: A002  it stands in the address
    """Build the page of a job, or lead to its run's."""
    there = studio.jobs.get(id)
    address = run_address(studio, there)
    if address is not None:
        return RedirectResponse(address, status_code=303)
    with layout.page(studio, there.title, "/queue"):
        if there.training and not there.over:
            with ui.element("p").classes("op-muted"):
                ui.label(
                    "This page opens the run once its images are read. You can leave it: training "
                    "continues."
                )
        with layout.panel(), ui.element("div").classes("op-jobs"):
            line = JobLine(studio, there, titled=False, log="open")
        gone, output = ui.element("div"), ui.element("div").classes("op-actions")
        with output:
            download_link(there)
        ui.link("All jobs", "/queue")

    async def news(topic: str) -> None:
        if topic not in {"jobs", "runs"}:
            return
        try:
            now = studio.jobs.get(id)
        except NotThere as error:
            line.element.set_visibility(False)
            gone.clear()
            with gone:
                layout.error_line(error)
            return
        address = run_address(studio, now)
        if address is not None:
            # In its place, so that "back" does not lead here and forward again at once.
            ui.run_javascript(f"location.replace({json.dumps(address)})")
            return
        line.show(now)
        output.clear()
        with output:
            download_link(now)
        await line.read_log()

    studio.changed.subscribe(news)
    await line.read_log()
    return None


PAGE = Page("/jobs/{id}", job)
