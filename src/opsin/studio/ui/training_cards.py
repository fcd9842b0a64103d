"""A job as a card, and a training as it goes on, with photographs as they are judged."""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from nicegui import ui

from opsin.classical.classical_recipe import BACKBONE
from opsin.core.artifacts.records import JudgedImages
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError
from opsin.core.format import ago, clock, count
from opsin.studio.context import Studio
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import output_of
from opsin.studio.people import visitor
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, Mark
from opsin.studio.ui.layout import address
from opsin.studio.words import safe

# Marks of causes that a terminal would show, and what they mean to people of the studio.
_CAUSES: Final = {
    (
        "disk is full",
        "No space left",
        "no space left",
    ): "The disk is full. Free some space, then try again.",
    ("opsin[train]", "needs PyTorch"): (
        "This needs PyTorch, which is not installed here. Choose Quick or Good instead."
    ),
    ("There is one class",): (
        "There is only one class. Add photographs of a second one, then try again."
    ),
}

# Photographs of the strip.
_STRIP_MOST: Final = 120
_MARKS: Final[dict[bool | None, Mark]] = {True: "right", False: "wrong", None: ""}


class JobCard:
    """A job in a page; ``linked`` if its title leads to the training."""

    def __init__(self, studio: Studio, job: Job, *, linked: bool = True) -> None:
        self._studio, self.job, name = studio, job, safe(job.title, 120)
        self._offered: list[str] = []
        with ui.element("article").classes("card stack") as self.element:
            self.element.props["aria-label"] = name
            with ui.element("div").classes("line"):
                if linked and job.training and job.project:
                    row, there = studio.runs.find(job.run or ""), address(job.project, "train")
                    if row is not None and row.has_classifier:
                        there = address(job.project, "results", run=row.id)
                    ui.link(name, there).classes("step")
                elif linked:
                    ui.label(name).classes("step")
                self._state = ui.label().classes("step").style("flex: 1 1 auto")
                self._left = ui.label()
            self._bar = ui.linear_progress(0, show_value=False, size="12px", color=None)
            self._bar.props("instant-feedback rounded")
            self._bar.props["aria-label"] = f"Progress of {name}"
            self._cause = ui.label()
            self._details = kit.question("Details", lambda: kit.note(self.job.details))
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
        self._left.classes(replace="step" if job.active else "note")
        self._bar.props["indeterminate"] = share is None
        self._bar.set_value(share or 0.0)
        self._bar.set_visibility(job.active)
        self._cause.set_text(cause_in_words(self._studio, job.cause or ""))
        self._cause.classes(replace="error" if job.state == "failed" else "note")
        self._cause.set_visibility(bool(job.cause))
        self._details.set_visibility(bool(job.details))
        works = self._works()
        if list(works) != self._offered:
            self._offered = list(works)
            self._buttons.clear()
            with self._buttons:
                self._offer(works)

    def _works(self) -> dict[str, Callable[[], object]]:
        job, queue = self.job, self._studio.jobs
        if job.state == "running":
            keeps = job.training and self._studio.progress.of(job).phase == "epochs"
            words = "Stop and keep the best so far" if keeps else "Stop"
            return {words: functools.partial(queue.stop, job.id)}
        if job.active:
            return {"Stop at once": functools.partial(queue.stop, job.id, at_once=True)}
        remove = functools.partial(queue.remove, job.id)
        if job.pending or job.state == "done":
            return {"Cancel" if job.pending else "Remove": remove}
        row = self._studio.runs.find(job.run) if job.training and job.run else None
        words = "Continue" if row is not None and row.in_steps else "Try again"
        return {words: functools.partial(queue.resume, job.id), "Remove": remove}

    def _offer(self, works: dict[str, Callable[[], object]]) -> None:
        is_own = self.job.by == visitor.get().id and not self.job.training
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
    return kit.explained(re.sub(r"/\S*/", "", studio.sets.in_names(cause)))


def _when(job: Job) -> str:
    if job.ended is not None:
        took = f", took {clock(job.ended - job.started)}" if job.started else ""
        return f"{ago(job.ended)}{took}"
    if job.started is not None:
        return f"{clock(time.time() - job.started)} so far"
    return f"asked {ago(job.created)}"


def _judged_in(directory: RunDirectory) -> dict[int, bool]:
    if not (directory.path / JudgedImages.FILE).is_file():
        return {}
    judged = directory.read(JudgedImages)
    return dict(zip(judged.rows, judged.right, strict=False))


class LiveTraining:
    """A running or waiting training."""

    def __init__(self, studio: Studio, job: Job) -> None:
        self._studio = studio
        self.card = JobCard(studio, job, linked=False)
        self.card.element.classes("training")
        kit.note("You can leave this page: the training goes on, and its results wait here.")
        self._strip = ui.element("div").classes("stack")
        self._judged: dict[int, bool] | None = None
        self._has_pictures, self._is_updating = True, False

    async def update(self, job: Job) -> None:
        """Show the training as it is now."""
        self.card.show(job)
        row = self._studio.runs.find(job.run) if job.run else None
        if row is None or row.model != BACKBONE or not self._has_pictures or self._is_updating:
            return
        self._is_updating = True  # changes come quicker than files are read
        try:
            await self._show_judged(row.id, RunDirectory(self._studio.runs.root / row.folder))
        except (OpsinError, OSError):  # unreadable now, or no pictures: the training goes on
            self._has_pictures = False
        finally:
            self._is_updating = False

    async def _show_judged(self, run_id: str, directory: RunDirectory) -> None:
        """Show photographs that turn blue or red as a head judges them that had not seen them."""
        judged = await IMAGES.run(_judged_in, directory)
        if judged == self._judged:
            return
        self._judged, opened = judged, await self._studio.albums.of_run(run_id)
        self._has_pictures = not opened.has_val and not self._strip.is_deleted
        if not self._has_pictures:
            return
        if not self._strip.default_slot.children:
            with self._strip:
                self._text = kit.note("Each photograph turns blue or red as soon as it is judged.")
                self._gallery = ImageGallery("Photographs, judged unseen", captions=False, side=64)
        spread = np.linspace(0, len(opened) - 1, min(_STRIP_MOST, len(opened))).round().astype(int)
        rows = [(row, opened.classes[opened.decoded.labels[row]]) for row in spread.tolist()]
        self._gallery.show(
            [GalleryImage(opened.address(i), it, mark=_MARKS[judged.get(i)]) for i, it in rows]
        )
        if judged:
            self._text.set_text(
                f"{count(sum(judged.values()))} of {count(len(judged))} right so far, each judged "
                "by a classifier that had not seen it."
            )
