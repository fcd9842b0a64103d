"""Queue: what runs, what waits, what ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final

from nicegui import ui

from opsin.studio.jobs.job import Job
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout
from opsin.studio.parts.job_line import JobLine
from opsin.studio.parts.paging import page_links, page_number
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.state import Studio

# Jobs that are over, on one page.
_PER: Final = 20
# Short work for a page: of no interest here once it is over.
_PASSING: Final = frozenset({"plan", "preview", "compare", "explain", "find"})
_SECTIONS: Final = (("active", "Running"), ("pending", "Waiting"), ("over", "Finished"))


def queue(studio: Studio, page: str = "") -> None:
    """Build it."""
    with layout.page(studio, "Queue", "/queue"):
        _QueuePage(studio, page_number(page))


PAGE = Page("/queue", queue, nav="Queue", order=60)


class _QueuePage:
    """The queue, kept up to date in every window.

    Args:
        studio: What all windows share.
        page: Which page of what is over is shown, from 1.
    """

    def __init__(self, studio: Studio, page: int) -> None:
        self._studio, self._page = studio, page
        self._pages_shown = (0, 0)
        self._lines: dict[str, JobLine] = {}
        self._places: dict[str, str] = {}
        with ui.element("div").classes("op-actions"):
            self._switch = ui.button(on_click=self._pause_or_go_on).props("outline")
            self._said = ui.label().classes("op-muted").props('role="status"')
        self._status = StatusLine()
        self._panels: dict[str, ui.element] = {}
        self._lists: dict[str, ui.element] = {}
        for key, heading in _SECTIONS:
            self._panels[key] = layout.panel(heading)
            with self._panels[key]:
                self._lists[key] = ui.element("div").classes("op-jobs")
        with self._panels["over"]:
            self._pages = ui.element("div")
        self._empty = layout.empty(
            "Waiting and running jobs appear here.",
            "Train", "/train",
        )  # fmt: skip
        self._show()
        studio.changed.subscribe(self._news)

    async def _news(self, topic: str) -> None:
        # Which run a job writes, and whether it can be resumed, is known by the runs.
        if topic in {"jobs", "runs"}:
            self._show()
            for line in list(self._lines.values()):
                if line.job.active:
                    await line.read_log()

    def _show(self) -> None:
        jobs = [job for job in self._studio.jobs.jobs() if not (job.over and job.kind in _PASSING)]
        over = [job for job in jobs if job.over]
        page = min(self._page, max(1, math.ceil(len(over) / _PER)))
        self._show_pages(page, len(over))
        shown = over[(page - 1) * _PER : page * _PER]
        self._arrange([job for job in jobs if not job.over] + shown)
        self._empty.set_visibility(not jobs)
        # What the button says is what it does, whatever another window did meanwhile.
        paused = self._paused = self._studio.jobs.paused
        self._switch.set_text("Resume the queue" if paused else "Pause the queue")
        waiting = any(job.pending for job in jobs)
        self._switch.set_visibility(paused or waiting)
        self._said.set_text(
            "The queue is paused: running jobs continue, and no training starts." if paused else ""
        )

    def _show_pages(self, page: int, over: int) -> None:
        if (page, over) != self._pages_shown:
            self._pages_shown = (page, over)
            self._pages.clear()
            if over > _PER:
                with self._pages:
                    page_links("/queue?page=", page, over, _PER)

    def _arrange(self, jobs: Sequence[Job]) -> None:
        """Put each job into its section, in order; those that stay keep what is unfolded."""
        places = {job.id: _section(job) for job in jobs}
        for id_ in [id_ for id_, place in self._places.items() if places.get(id_) != place]:
            self._lines.pop(id_).element.delete()
        for key, _ in _SECTIONS:
            here = [job for job in jobs if places[job.id] == key]
            for index, job in enumerate(here):
                line = self._lines.get(job.id)
                if line is None:
                    with self._lists[key]:
                        line = self._lines[job.id] = JobLine(self._studio, job)
                else:
                    line.show(job)
                if self._lists[key].default_slot.children[index] is not line.element:
                    line.element.move(target_index=index)
            self._panels[key].set_visibility(bool(here))
        self._places = places

    async def _pause_or_go_on(self) -> None:
        with self._status.errors():
            await asyncio.to_thread(self._studio.jobs.pause_all, not self._paused)
        self._studio.changed.emit("jobs")


def _section(job: Job) -> str:
    return "active" if job.active else "pending" if job.pending else "over"
