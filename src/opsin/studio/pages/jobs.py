"""Jobs: what runs, what waits, what is finished."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final

from fastapi.responses import RedirectResponse
from nicegui import ui

from opsin.core.format import ago, clock, count
from opsin.studio.context import Studio
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import output_of
from opsin.studio.pages.page import Page
from opsin.studio.people import Role, visitor
from opsin.studio.ui import kit
from opsin.studio.ui.layout import address, page
from opsin.studio.words import safe

# Finished jobs that are shown at first.
_SHOWN: Final = 20
# Short work for a page: of no interest here once it is over.
_PASSING: Final = frozenset({"look", "plan", "preview", "compare", "explain", "find"})
# By the rank of a job.
_SECTIONS: Final = ("Running", "Waiting", "Finished")
_STATES: Final = {
    "running": "Running", "waiting": "Waiting", "pausing": "Pausing", "stopping": "Stopping",
    "paused": "Paused", "done": "Done", "stopped": "Stopped", "failed": "Failed",
}  # fmt: skip
# Marks of causes that a terminal would show, and what they mean to people of the studio.
_CAUSES: Final = {
    ("disk is full", "No space left"): "The disk is full. Free some space, then try again.",
    ("opsin[train]", "needs PyTorch"): (
        "This needs PyTorch, which is not installed here. Choose Quick or Good instead."
    ),
    ("There is one class",): (
        "There is only one class. Add photographs of a second one, then try again."
    ),
}


def cause_in_words(studio: Studio, cause: str) -> str:
    """Why a job ended, without paths and commands."""
    for marks, words in _CAUSES.items():
        if any(mark in cause for mark in marks):
            return words
    return kit.without_commands(re.sub(r"/\S*/", "", studio.sets.in_names(cause)))


def jobs(studio: Studio) -> None:
    """Build the page of all jobs."""
    with page(studio, "Jobs") as frame:
        with frame.actions:
            switch = kit.action("Pause the queue", lambda: None, needs="owner")
        _Jobs(studio, switch)


PAGE = Page("/jobs", jobs, more="Jobs")


def one_job(studio: Studio, id: str) -> RedirectResponse:  # noqa: A002  it stands in the address
    """Lead to the training that a job is, or to all jobs."""
    return RedirectResponse(_training_address(studio, studio.jobs.get(id)) or "/jobs", 303)


ONE = Page("/jobs/{id}", one_job)


class _Jobs:
    """The queue, kept up to date in every window."""

    def __init__(self, studio: Studio, switch: ui.button) -> None:
        self._studio, self._switch = studio, switch
        self._most = _SHOWN
        self._lines: dict[tuple[str, int], _JobLine] = {}
        switch.on_click(self._pause_or_resume)
        self._status = kit.StatusLine()
        self._paused = ui.label("The queue is paused: what runs continues, no training starts.")
        self._paused.classes("warning").props('role="status"')
        self._list = ui.element("div").classes("stack")
        self._more = kit.action("Show all", self._show_all)
        self.show()
        studio.changed.subscribe(lambda topic: self.show() if topic in ("jobs", "runs") else None)

    def show(self) -> None:
        """Show the jobs as they are."""
        jobs = self._studio.jobs.jobs()
        known = [job for job in jobs if not (job.over and job.kind in _PASSING)]
        over = [job for job in known if job.over]
        shown = [job for job in known if not job.over] + over[: self._most]
        if [(job.id, job.rank[0]) for job in shown] != list(self._lines) or not shown:
            self._build(shown)
        for job, line in zip(shown, self._lines.values(), strict=True):
            line.show(job)
        self._more.set_text(f"Show all {count(len(over))}")
        self._more.set_visibility(len(over) > self._most)
        paused = self._studio.jobs.paused
        self._paused.set_visibility(paused)
        self._switch.set_text("Resume the queue" if paused else "Pause the queue")
        self._switch.set_visibility(paused or any(job.pending for job in known))

    def _build(self, jobs: list[Job]) -> None:
        self._list.clear()
        self._lines = {}
        with self._list:
            if not jobs:
                kit.empty("Trainings and other long work appear here.", "Your projects", "/")
            for rank, title in enumerate(_SECTIONS):
                section = [job for job in jobs if job.rank[0] == rank]
                if section:
                    kit.heading(title)
                for job in section:
                    self._lines[job.id, rank] = _JobLine(self._studio, job)

    def _show_all(self) -> None:
        self._most = len(self._studio.jobs.jobs())
        self.show()

    async def _pause_or_resume(self) -> None:
        # What the button says is what it does, whatever another window did meanwhile.
        pause = self._switch.text == "Pause the queue"
        with self._status.errors():
            await asyncio.to_thread(self._studio.jobs.pause_all, pause)
        self._studio.changed.emit("jobs")


class _JobLine:
    """A job: its state, how far it is, and what can be done."""

    def __init__(self, studio: Studio, job: Job) -> None:
        self._studio, self._job = studio, job
        self._offered: list[str] = []
        name = safe(job.title, 120)
        with ui.element("article").classes("card stack") as card:
            card.props["aria-label"] = name
            with ui.element("div").classes("line"):
                title = ui.link(name, f"/jobs/{job.id}") if job.training else ui.label(name)
                title.classes("text-weight-bold")
                self._state = kit.note("")
            self._bar = ui.linear_progress(show_value=False, size="8px")
            self._bar.props["aria-label"] = f"Progress of {name}"
            self._cause = ui.label()
            with ui.element("div").classes("line"):
                self._actions = ui.element("div").classes("line")
                self._status = kit.StatusLine()

    def show(self, job: Job) -> None:
        """Show the job as it is now."""
        self._job = job
        words, share = [_STATES[job.state], _when(job)], None
        if job.training and job.active:
            progress = self._studio.progress.of(job)
            words, share = [progress.step, progress.left_in_words], progress.share
        self._state.set_text(" · ".join(filter(None, words)))
        self._bar.set_value(share or 0)
        self._bar.props["indeterminate"] = share is None
        self._bar.set_visibility(job.active)
        self._cause.set_text(cause_in_words(self._studio, job.cause or ""))
        self._cause.set_visibility(bool(job.cause))
        self._cause.classes(replace="error" if job.state == "failed" else "note")
        works = _works(self._studio, job)
        if list(works) != self._offered:
            self._offered = list(works)
            self._offer(works)

    def _offer(self, works: dict[str, Callable[[str], object]]) -> None:
        is_own = self._job.by == visitor.get().person.id and not self._job.training
        needs: Role = "viewer" if is_own else "owner"
        self._actions.clear()
        with self._actions:
            for text, work in works.items():
                button = kit.action(text, lambda work=work: self._do(work), needs=needs)
                button.props("dense")
                button.props["aria-label"] = f"{text}: {safe(self._job.title, 80)}"
            file = output_of(self._job)
            if file is not None and self._job.state == "done":
                there = f"/answers/{self._job.id}{file.suffix}"
                kit.link_button(f"Download {safe(file.name, 60)}", there).props("download dense")

    async def _do(self, work: Callable[[str], object]) -> None:
        with self._status.errors():
            await asyncio.to_thread(work, self._job.id)
        self._studio.changed.emit("jobs")


def _training_address(studio: Studio, job: Job) -> str:
    """The address of the page that shows a training, once its project is known."""
    row = studio.runs.find(job.run) if job.run else None
    if row is not None:
        where = "results" if row.has_classifier else "train"
        return address(studio.projects.of_run(row.id), where, run=row.id)
    return address(job.project, "train") if job.training and job.project else ""


def _works(studio: Studio, job: Job) -> dict[str, Callable[[str], object]]:
    """What can be done with a job, by the words of its buttons."""
    queue = studio.jobs
    row = studio.runs.find(job.run) if job.training and job.run else None
    in_steps = row is not None and row.in_steps
    if job.state == "running":
        return {**({"Pause": queue.pause} if in_steps else {}), "Stop": queue.stop}
    if job.active:
        return {"Stop at once": queue.stop_at_once}
    if job.pending:
        return {"Cancel": queue.remove}
    if job.state == "done" or not job.argv:
        return {"Remove": queue.remove}
    return {"Continue" if in_steps else "Try again": queue.resume, "Remove": queue.remove}


def _when(job: Job) -> str:
    if job.ended is not None:
        took = f", took {clock(job.ended - job.started)}" if job.started else ""
        return f"{ago(job.ended)}{took}"
    if job.started is not None:
        return f"{clock(time.time() - job.started)} so far" if job.active else ""
    return f"asked {ago(job.created)}"
