"""A job as a card: its state, how far it is, why it ended, and what can be done."""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.format import ago, clock
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.outside import continue_training, stop_training
from opsin.studio.jobs.queue import output_of
from opsin.studio.people import visitor
from opsin.studio.ui import kit
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.context import Studio

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


class JobCard:
    """A job in a page; ``linked`` if its title leads to the training."""

    def __init__(self, studio: Studio, job: Job, *, linked: bool = True) -> None:
        self._studio, self.job, name = studio, job, safe(job.title, 120)
        self._offered: list[str] = []
        with ui.element("article").classes("card stack") as self.element:
            self.element.props["aria-label"] = name
            with ui.element("div").classes("line"):
                title = ui.link(name, f"/jobs/{job.id}") if linked else ui.label(name)
                title.classes("text-weight-bold")
                self._state = ui.label().classes("step col")
                self._left = ui.label().classes("step")
            self._bar = ui.linear_progress(0, show_value=False, size="12px", color=None)
            self._bar.props("instant-feedback rounded")
            self._bar.props["aria-label"] = f"Progress of {name}"
            self._cause = ui.label()
            with ui.element("div").classes("line"):
                self._buttons = ui.element("div").classes("line")
                self._status = kit.StatusLine()
        self.show(job)

    def show(self, job: Job) -> None:
        """Show the job as it is now."""
        self.job = job
        state, left, share = job.state.capitalize(), _when(job), None
        if job.training and job.state == "running":
            progress = self._studio.progress.of(job)
            state, left, share = progress.step, progress.left_in_words, progress.share
        self._state.set_text(state)
        self._left.set_text(left)
        self._bar.props["indeterminate"] = share is None
        self._bar.set_value(share or 0.0)
        self._bar.set_visibility(job.active)
        self._cause.set_text(cause_in_words(self._studio, job.cause or ""))
        self._cause.set_visibility(bool(job.cause))
        self._cause.classes(replace="error" if job.state == "failed" else "note")
        works = self._works()
        if list(works) != self._offered:
            self._offered = list(works)
            self._offer(works)

    def _works(self) -> dict[str, Callable[[], object]]:
        """What can be done with the job, by the words of its buttons."""
        job, queue, id_ = self.job, self._studio.jobs, self.job.id
        row = self._studio.runs.find(job.run) if job.training and job.run else None
        directory = RunDirectory(self._studio.runs.root / (job.run or ""))
        if not job.argv:  # started elsewhere
            return {"Stop": lambda: stop_training(directory)}
        if job.state == "running":
            keeps = job.training and self._studio.progress.of(job).phase == "epochs"
            return {"Stop and keep the best so far" if keeps else "Stop": lambda: queue.stop(id_)}
        if job.active:
            return {"Stop at once": lambda: queue.stop(id_, at_once=True)}
        works: dict[str, Callable[[], object]] = {}
        if row is not None and row.in_steps and job.over and job.state != "done":
            works["Continue"] = lambda: continue_training(queue, directory, job.title, job.project)
        elif job.over and job.state != "done":
            works["Try again"] = lambda: queue.resume(id_)
        return works | {"Cancel" if job.pending else "Remove": lambda: queue.remove(id_)}

    def _offer(self, works: dict[str, Callable[[], object]]) -> None:
        is_own = self.job.by == visitor.get().person.id and not self.job.training
        self._buttons.clear()
        with self._buttons:
            for text, work in works.items():
                do = functools.partial(self._do, work)
                button = kit.action(text, do, needs="viewer" if is_own else "owner").props("dense")
                button.props["aria-label"] = f"{text}: {safe(self.job.title, 80)}"
            file = output_of(self.job)
            if file is not None and self.job.state == "done":
                there = f"/answers/{self.job.id}{file.suffix}"
                kit.link_button(f"Download {safe(file.name, 60)}", there).props("download dense")

    async def _do(self, work: Callable[[], object]) -> None:
        with self._status.errors():
            await asyncio.to_thread(work)
        self._studio.changed.emit("jobs")


def cause_in_words(studio: Studio, cause: str) -> str:
    """Why a job ended, without paths and commands."""
    for marks, words in _CAUSES.items():
        if any(mark in cause for mark in marks):
            return words
    return kit.without_commands(re.sub(r"/\S*/", "", studio.sets.in_names(cause)))


def _when(job: Job) -> str:
    if job.ended is not None:
        took = f", took {clock(job.ended - job.started)}" if job.started else ""
        return f"{ago(job.ended)}{took}"
    if job.started is not None:
        return f"{clock(time.time() - job.started)} so far"
    return f"asked {ago(job.created)}"
