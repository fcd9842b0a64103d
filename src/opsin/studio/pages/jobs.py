"""Jobs: what runs, what waits, what is finished; and the page of one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Final

from fastapi import Response
from fastapi.responses import RedirectResponse
from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import ago, clock, count
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import output_of
from opsin.studio.pages.page import Page
from opsin.studio.people import Role
from opsin.studio.state import Studio
from opsin.studio.ui import kit
from opsin.studio.ui.layout import address, page
from opsin.studio.words import safe

# Finished jobs that are shown at first, and lines of a log.
_SHOWN: Final = 20
_LINES: Final = 60
# Short work for a page: of no interest here once it is over.
_PASSING: Final = frozenset({"look", "plan", "preview", "compare", "explain", "find"})
# By the rank of a job.
_SECTIONS: Final = ("Running", "Waiting", "Finished")
_STATES: Final = {
    "running": "Running", "waiting": "Waiting", "pausing": "Pausing", "stopping": "Stopping",
    "paused": "Paused", "done": "Done", "stopped": "Stopped", "failed": "Failed",
}  # fmt: skip


def jobs(studio: Studio) -> None:
    """Build the page of all jobs."""
    with page(studio, "Jobs") as frame:
        with frame.actions:
            switch = kit.action("Pause the queue", lambda: None, needs="owner")
        _Jobs(studio, switch)


PAGE = Page("/jobs", jobs, more="Jobs")


class _Jobs:
    """The queue, kept up to date in every window."""

    def __init__(self, studio: Studio, switch: ui.button) -> None:
        self._studio, self._switch = studio, switch
        self._most = _SHOWN
        self._lines: dict[str, _JobLine] = {}
        switch.on_click(self._pause_or_resume)
        self._status = kit.StatusLine()
        self._paused = ui.label("The queue is paused: what runs continues, no training starts.")
        self._paused.classes("warning").props('role="status"')
        self._list = ui.element("div").classes("stack")
        self._more = kit.action("Show all", self._show_all)
        self.show()
        studio.changed.subscribe(self._changed)

    async def _changed(self, topic: str) -> None:
        if topic in {"jobs", "runs"}:
            self.show()
            for line in [line for line in self._lines.values() if line.job.active]:
                await line.read_log()

    def show(self) -> None:
        """Show the jobs as they are."""
        known = self._studio.jobs.jobs()
        known = [job for job in known if not (job.over and job.kind in _PASSING)]
        over = [job for job in known if job.over]
        shown = [job for job in known if not job.over] + over[: self._most]
        before = [(id_, line.job.rank[0]) for id_, line in self._lines.items()]
        if [(job.id, job.rank[0]) for job in shown] != before or not shown:
            self._build(shown)
        for job in shown:
            self._lines[job.id].show(job)
        self._more.set_text(f"Show all {count(len(over))}")
        self._more.set_visibility(len(over) > self._most)
        paused = self._studio.jobs.paused
        self._paused.set_visibility(paused)
        self._switch.set_text("Resume the queue" if paused else "Pause the queue")
        self._switch.set_visibility(paused or any(job.pending for job in known))

    def _build(self, jobs: Sequence[Job]) -> None:
        self._list.clear()
        self._lines = {}
        with self._list:
            for rank, title in enumerate(_SECTIONS):
                here = [job for job in jobs if job.rank[0] == rank]
                if here:
                    kit.heading(title)
                for job in here:
                    self._lines[job.id] = _JobLine(self._studio, job)
            if not jobs:
                kit.empty("Trainings and other long work appear here.", "Your projects", "/")

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
    """A job: its state, how far it is, what can be done, and its messages, folded."""

    def __init__(self, studio: Studio, job: Job, *, titled: bool = True) -> None:
        self._studio, self.job = studio, job
        self._offered: list[str] = []
        self._log: ui.label | None = None
        with ui.element("article").classes("card stack") as self.element:
            self.element.props["aria-label"] = safe(job.title, 120)
            with ui.element("div").classes("line"):
                self._title = ui.link(safe(job.title, 120), f"/jobs/{job.id}")
                self._title.classes("text-weight-bold").set_visibility(titled)
                self._state = kit.note("")
            self._bar = ui.linear_progress(show_value=False, size="8px")
            self._bar.props["aria-label"] = f"Progress of {safe(job.title, 80)}"
            self._cause = ui.label()
            self._status = kit.StatusLine()
            self._actions = ui.element("div").classes("line")
            self._fold = kit.question("Messages", self._build_log)
            self._fold.on_value_change(self.read_log)

    def _build_log(self) -> None:
        # Its end is what is seen, however much is added.
        with (
            ui.element("div").classes("log").props('tabindex="0" role="log" aria-live="off"') as log
        ):
            log.props["aria-label"] = "Messages"
            self._log = ui.label().classes("mono")

    def show(self, job: Job) -> None:
        """Show the job as it is now."""
        self.job = job
        progress = self._studio.progress.of(job) if job.training and job.active else None
        words = [_STATES[job.state], _when(job)]
        if progress is not None:
            words = [progress.step, progress.left_in_words]
        self._state.set_text(" · ".join(filter(None, words)))
        share = progress.share if progress else None
        self._bar.set_value(share or 0)
        self._bar.props["indeterminate"] = share is None
        self._bar.set_visibility(job.active)
        self._cause.set_text(kit.without_commands(self._studio.sets.in_names(job.cause or "")))
        self._cause.set_visibility(bool(job.cause))
        self._cause.classes(replace="error" if job.state == "failed" else "note")
        offered = _offers(self._studio, job)
        if offered != self._offered:
            self._offered = offered
            self._offer(offered)
        self._actions.set_visibility(bool(offered))
        self._fold.set_visibility(not job.pending or job.goes_on)

    async def read_log(self) -> None:
        """Show the end of the messages, where they are unfolded."""
        await asyncio.sleep(0)  # the fold builds its content first
        if self._log is None or not self._fold.value:
            return
        try:
            lines = await asyncio.to_thread(self._studio.jobs.log_tail, self.job.id, _LINES)
        except OpsinError:  # removed meanwhile, in another window
            return
        self._log.set_text("\n".join(safe(line, 1000) for line in lines) or "No messages yet.")

    def _offer(self, offered: Sequence[str]) -> None:
        queue = self._studio.jobs
        works: dict[str, Callable[[str], object]] = {
            "Pause": queue.pause, "Stop": queue.stop, "Stop at once": queue.stop_at_once,
            "Cancel": queue.remove, "Resume": queue.resume, "Try again": queue.resume,
            "Remove": queue.remove,
        }  # fmt: skip
        self._actions.clear()
        with self._actions:
            for text in offered:
                needs: Role = "owner" if self.job.training else "viewer"
                button = kit.action(text, lambda work=works[text]: self._do(work), needs=needs)
                button.props("dense")
                button.props["aria-label"] = f"{text}: {safe(self.job.title, 80)}"
            file = output_of(self.job)
            if file is not None and self.job.state == "done":
                there = f"/answers/{self.job.id}{file.suffix}"
                kit.link_button(f"Download {safe(file.name, 60)}", there).props("download dense")

    async def _do(self, work: Callable[[str], object]) -> None:
        with self._status.errors():
            await asyncio.to_thread(work, self.job.id)
        self._studio.changed.emit("jobs")


async def one_job(studio: Studio, id: str) -> Response | None:  # noqa: A002  it stands in the address
    """Build the page of a job, or lead to the training that it is."""
    job = studio.jobs.get(id)
    if there := _training_address(studio, job):
        return RedirectResponse(there, 303)
    with page(studio, job.title):
        line = _JobLine(studio, job, titled=False)
        line.show(job)
        gone = ui.element("div")
        ui.link("All jobs", "/jobs")

    async def changed(topic: str) -> None:
        if topic not in {"jobs", "runs"}:
            return
        try:
            now = studio.jobs.get(id)
        except NotThere as error:
            line.element.set_visibility(False)
            gone.clear()
            with gone:
                kit.error_line(error)
            return
        if there := _training_address(studio, now):
            # In its place, so that "back" does not lead here and forward again at once.
            ui.run_javascript(f"location.replace({json.dumps(kit.rooted(there))})")
            return
        line.show(now)
        await line.read_log()

    studio.changed.subscribe(changed)
    return None


ONE = Page("/jobs/{id}", one_job)


def _training_address(studio: Studio, job: Job) -> str:
    """The address of the page that shows a training, once its project is known."""
    row = studio.runs.find(job.run) if job.run else None
    if row is not None:
        where = "results" if row.has_classifier else "train"
        return address(studio.projects.of_run(row.id), where, run=row.id)
    return address(job.project, "train") if job.training and job.project else ""


def _offers(studio: Studio, job: Job) -> list[str]:
    """What can be done with a job, as the buttons call it."""
    row = studio.runs.find(job.run) if job.training and job.run else None
    in_steps = row is not None and row.in_steps
    if job.state == "running":
        return ["Pause"] * in_steps + ["Stop"]
    if job.active:
        return ["Stop at once"]
    if job.pending:
        return ["Cancel"]
    ended = job.state == "done" or not job.argv
    return [*([] if ended else ["Resume" if in_steps else "Try again"]), "Remove"]


def _when(job: Job) -> str:
    if job.ended is not None:
        took = f", took {clock(job.ended - job.started)}" if job.started else ""
        return f"{ago(job.ended)}{took}"
    if job.started is not None:
        return f"{clock(time.time() - job.started)} so far" if job.active else ""
    return f"asked {ago(job.created)}"
