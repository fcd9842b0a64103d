"""Train: one click starts it, and the page follows it to its results."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from fastapi import Query
from nicegui import ui

from opsin.classical.classical_recipe import ClassicalRecipe
from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, SourceError, StorageError
from opsin.core.format import count, counted
from opsin.core.recipe import flat_options
from opsin.data.run_images import recipe_of_run
from opsin.report.training_plan import Plan
from opsin.studio.jobs import training_form
from opsin.studio.jobs.job import Job
from opsin.studio.pages.page import Page
from opsin.studio.pages.terminal_training import continue_training, stop_training
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import SPLIT_OPTIONS, RunRow
from opsin.studio.state import Studio
from opsin.studio.ui import layout
from opsin.studio.ui.kit import (
    StatusLine,
    action,
    error_line,
    guarded,
    heading,
    link_button,
    note,
    question,
    rooted,
)
from opsin.studio.ui.live_training import LiveTraining
from opsin.studio.ui.network_picker import Network, known_networks, text_of
from opsin.studio.ui.training_levels import (
    Level,
    levels_for,
    time_in_words,
    words_of,
)
from opsin.studio.ui.training_plan import Planner
from opsin.studio.ui.training_settings import TrainingSettings
from opsin.studio.words import safe

# Free bytes of the disk below which no training starts.
_FREE_LEAST: Final = 200_000_000
# Names and causes that a terminal would show, as people of the studio say them.
_CAUSES: Final = {
    ("disk is full", "No space left"): "The disk is full. Free some space, then try again.",
    ("opsin[train]", "needs PyTorch"): (
        "This needs PyTorch, which is not installed here. Choose Quick or Good instead."
    ),
    ("ended by SIG", "ended without a message", "ended at once", "ended with status"): (
        "The training was ended from outside, perhaps because memory ran out. Close other "
        "programs, then try again."
    ),
    ("asked to stop from outside",): "The training was stopped from outside the studio.",
    ("There is one class",): (
        "There is only one class. Add photographs of a second one, then try again."
    ),
}


async def train(
    studio: Studio,
    project: str,
    start: str = "",
    source_run: Annotated[str, Query(alias="from")] = "",
) -> None:
    """Build it."""
    now = await asyncio.to_thread(studio.projects.get, project)
    guide = "how-to/studio.html#train"
    with layout.page(studio, "Train", project=now, here="train", guide=guide) as frame:
        page = _TrainPage(studio, now)
        await page.count()
        await asyncio.to_thread(page.read, source_run)
        page.build(frame)
        studio.changed.subscribe(page.follow)
        if start and ui.context.client.request.headers.get("sec-fetch-site") != "cross-site":
            await ui.context.client.connected()
            # In place of this address: a reload or the way back must not start another one.
            ui.run_javascript("history.replaceState(history.state, '', location.pathname)")
            if page.live is None and page.can_start:
                await page.start()


PAGE = Page("/projects/{project}/train", train)


class _TrainPage:
    """The form, or the training that runs.

    Args:
        studio: The state of all windows.
        project: The project.
    """

    def __init__(self, studio: Studio, project: Project) -> None:
        self._studio, self._project = studio, project
        self._recipe: RecordedRecipe | None = None
        self._run: RunRow | None = None
        self._counts: dict[str, int] | None = None
        self._levels: list[Level] = []
        self._networks: list[Network] = []
        self._fault: OpsinError | None = None
        self._planner: Planner | None = None
        self._planned: dict[str, float] = {}  # seconds of each phase of what the form says
        self._shown = ""
        self.live: LiveTraining | None = None

    async def count(self) -> None:
        """Count the photographs of each class."""
        if self._project.dataset is not None:
            try:
                album = await self._studio.albums.open(self._project.id, at_once=True)
            except OpsinError as error:
                self._fault = error
            else:
                self._counts = album.counts or None

    def read(self, source_run: str = "") -> None:
        """Read what the form begins with, in a thread."""
        studio, project = self._studio, self._project
        before: dict[str, str] = {}
        if source_run:
            self._run = project.classifier(source_run) or studio.runs.row(source_run)
            directory = studio.runs.get(source_run)
            self._recipe = directory.read(RecordedRecipe)
            before = training_form.values_of(self._recipe)
            if before.get("model") not in training_form.MODEL_WORDS:  # of an earlier version
                before["model"] = "auto"
        try:
            if project.dataset is not None:
                places = map(Path, project.dataset.sources)
                if any(path.is_absolute() and not path.exists() for path in places):
                    raise SourceError(
                        f"The photographs of {project.name} are no longer where they were",
                        "Put them back, or add them again.",
                    )
            else:
                recipe_of_run(self._directory())
        except OpsinError as error:
            self._fault = error
        images = sum(self._counts.values()) if self._counts else None
        heads = [row.images or 0 for row in project.runs if row.model == "backbone"]
        self._levels = levels_for(images, studio.jobs.jobs(), known=max(heads, default=0))
        self._networks = known_networks(studio)
        trackers = training_form.tracker_words()
        self.settings = TrainingSettings(
            self._levels, self._networks, trackers, before, self._change
        )

    def _directory(self) -> RunDirectory:
        """The run whose images the project has."""
        row = self._run or self._project.runs[0]
        return RunDirectory(self._studio.runs.root / row.folder)

    def _jobs(self) -> list[Job]:
        folders = {row.folder for row in self._project.runs}
        jobs = self._studio.jobs.of_project(self._project.id, folders)
        return [job for job in self._studio.progress.outside() if job.run in folders] + jobs

    # What is shown.

    def build(self, frame: layout.Frame) -> None:
        """Build the page."""
        self._frame = frame
        self._content = ui.element("div").classes("stack")
        self.show()

    def show(self) -> None:
        """Show the training that runs or waits, or the form."""
        jobs = self._jobs()
        ongoing = [job for job in jobs if not job.over]
        self._shown = " ".join(job.id for job in ongoing)
        self._content.clear()
        self._frame.actions.clear()
        self.live = None
        with self._content:
            if ongoing:
                self._frame.retitle(f"Training {ongoing[0].title}")
                self.live = LiveTraining(self._studio, ongoing[0], self._stop_elsewhere)
                self._waiting(ongoing[1:])
            else:
                self._frame.retitle("Train")
                self._form(next(iter(jobs), None))

    async def follow(self, topic: str) -> None:
        """Go on with the training; at its end, lead to its results."""
        if topic != "jobs" and not topic.startswith("run"):
            return
        if self.live is not None:
            before = self.live.job
            job = next((job for job in self._jobs() if job.id == before.id), before)
            row = self._studio.runs.find(job.run) if job.run else None
            state = job.state if job.argv else row.state if row else ""  # of one from elsewhere
            ended = state in ("done", "stopped")
            if ended and row is not None and row.has_classifier:
                target = layout.address(self._project, "results", run=row.id)
                ui.run_javascript(f"location.replace({json.dumps(rooted(target))})")
                return
        ongoing = " ".join(job.id for job in self._jobs() if not job.over)
        if ongoing != self._shown:
            self._project = await asyncio.to_thread(self._studio.projects.get, self._project.id)
            self.show()
        elif self.live is not None:
            await self.live.update(job)

    def _waiting(self, jobs: list[Job]) -> None:
        if jobs:
            heading("Waiting")
        for job in jobs:
            with ui.element("div").classes("line"):
                ui.label(safe(job.title))
                remove = functools.partial(self._studio.jobs.remove, job.id)
                action("Do not train", functools.partial(self._do, remove), needs="owner")

    def _form(self, last: Job | None) -> None:
        self._last(last)
        if self._fault is not None:
            error_line(self._fault)
        wrong = self._wrong
        if self._run is not None:
            note(f"With the settings of {self._project.title_of(self._run)}.")
        with ui.element("div").classes("stack"):
            ui.label(self._images_in_words()).classes("step")
            self._promise = note("")
        if wrong:
            with ui.element("p").classes("warning"):
                ui.label(wrong)
        word = "Train again" if self._project.classifiers else "Train"
        with self._frame.actions:
            if wrong and self._project.dataset is not None:
                address = layout.address(self._project, "photos")
                link_button("Add photographs", address, kind="primary")
            self._button = action(word, self.start, kind="plain" if wrong else "primary", off=wrong,
                                  needs="owner")  # fmt: skip
        self._status = StatusLine()
        question("More", self._more, is_open=self._run is not None)
        self._planner = None
        self._change()

    def _more(self) -> None:
        self.settings.build_levels()
        self._faults = ui.element("div")
        question("Advanced", self._advanced, is_open=self._run is not None)

    def _advanced(self) -> None:
        self.settings.build_groups()
        heading("Estimate")
        self._planner = Planner(self._studio, lambda: self._argv(plan=True), self._take_plan)
        self._change()

    def _take_plan(self, plan: Plan) -> None:
        if self.settings.level is None and plan.seconds is not None:
            fits = isinstance(plan.recipe, ClassicalRecipe) and not plan.recipe.fine_tunes
            work = "heads" if fits else "epochs"
            self._planned = {"start": 5.0, work: plan.seconds, "finish": 5.0}
            time = time_in_words(sum(self._planned.values()))
            self._promise.set_text(f"{time[:1].upper()}{time[1:]}, with your settings.")
        self.settings.show_automatic(flat_options(plan.recipe.model_dump(mode="json")))

    def _last(self, job: Job | None) -> None:
        """Say how the last training ended, if it did not end by itself."""
        row = next(iter(self._project.runs), None)
        if job is not None and job.run != (row and row.folder):
            row = self._studio.runs.find(job.run) if job.run else None
        if row is not None and row.state in ("running", "done"):
            return
        if row is None and (job is None or job.state == "done"):
            return
        title = job.title if row is None and job else self._project.title_of(row) if row else ""
        goes_on = row is not None and row.in_steps
        if job is None and not goes_on:
            return
        failed = job.state == "failed" if job else row is not None and row.state == "failed"
        with ui.element("div").classes("card stack"):
            if failed:
                cause = job.cause if job else row and row.cause
                error_line(f"{title} could not be trained to its end. {self._cause(cause or '')}")
            else:
                paused = job is not None and job.state == "paused"
                ui.label(f"{safe(title)} {'is paused' if paused else 'was stopped early'}.")
            with ui.element("div").classes("line"):
                if goes_on or job:
                    action("Continue" if goes_on else "Try again", lambda: self._resume(job, row),
                           needs="owner")  # fmt: skip
                if row is not None and row.has_classifier:
                    target = layout.address(self._project, "results", run=row.id)
                    link_button("See its results", target)
                if job:
                    action("Dismiss", lambda: self._dismiss(job), kind="quiet", needs="owner")

    def _stop_elsewhere(self, job: Job) -> None:
        stop_training(RunDirectory(self._studio.runs.root / (job.run or "")))

    async def _resume(self, job: Job | None, row: RunRow | None) -> None:
        studio = self._studio
        if row is not None and row.in_steps:
            title = self._project.title_of(row)
            await self._do(lambda: continue_training(studio, row, title))
        elif job is not None:
            await self._do(lambda: studio.jobs.resume(job.id))

    def _cause(self, cause: str) -> str:
        for marks, words in _CAUSES.items():
            if any(mark in cause for mark in marks):
                return words
        # What a terminal adds: paths, and sentences with options and commands.
        plain = re.sub(r"/\S*/", "", self._studio.sets.in_names(cause))
        sentences = re.split(r"(?<=[.!?]) ", plain)
        return " ".join(words for words in sentences if not re.search(r"--\w|\bopsin ", words))

    async def _dismiss(self, job: Job) -> None:
        await self._do(lambda: self._studio.jobs.remove(job.id))
        self.show()

    async def _do(self, work: Callable[[], object]) -> None:
        with self._content:
            await guarded(lambda: asyncio.to_thread(work))
        self._studio.changed.emit("jobs")

    def _images_in_words(self) -> str:
        if self._counts is None:
            return f"The images of {safe(self._project.name)}"
        present = [number for number in self._counts.values() if number]
        images = counted(sum(present), "photograph")
        return f"{images} in {counted(len(present), 'class', 'classes')}"

    @property
    def _wrong(self) -> str:
        """Why no training can start, however it is set."""
        if self._fault is not None:
            return "The photographs cannot be read."
        if self._counts is not None:
            present = [number for number in self._counts.values() if number]
            if len(present) < 2:
                return "Photographs of two classes or more are needed."
            if min(present) < 2:
                return "Each class needs two photographs or more."
        good = next((level for level in self._levels if level.name == "good"), None)
        return good.off if good else ""

    @property
    def can_start(self) -> bool:
        """Whether the photographs can be trained on."""
        return not self._wrong

    def _change(self) -> None:
        """Say what would be trained now, or what is wrong."""
        if self.live is not None or not hasattr(self, "_promise"):
            return
        faults, level = self.settings.faults, self.settings.level
        self._button.set_enabled(not faults and self.can_start and allows("owner"))
        promise, self._planned = self.settings.price, {}
        if level is not None:
            promise = f"{words_of(level)}."
            promise = promise[:1].upper() + promise[1:]
        self._promise.set_text("" if self._wrong else promise)
        if hasattr(self, "_faults") and not self._faults.is_deleted:
            self._faults.clear()
            with self._faults:
                for fault in faults:
                    error_line(fault)
        if self._planner is not None:
            if faults or self.settings.price:
                self._planner.stop("There is no estimate yet.")
            else:
                self._planner.ask()

    # What is asked for.

    async def start(self) -> None:
        """Add the training to the queue."""
        with self._status.errors():
            await asyncio.to_thread(self._add)
            if self._planner is not None:
                self._planner.stop()
            self._studio.changed.emit("jobs")

    def _add(self) -> None:
        studio, project = self._studio, self._project
        runs = studio.settings.runs
        free = shutil.disk_usage(runs if runs.is_dir() else studio.settings.home).free
        if free < _FREE_LEAST:
            raise StorageError("The disk is full", "Free some space, then try again.")
        rows = {row.folder for row in project.runs}
        coming = [job for job in self._jobs() if not job.over and job.run not in rows]
        name = f"{project.name} {count(len(project.runs) + len(coming) + 1)}"
        level = self.settings.level
        expected, words = level.expected if level else self._planned, self._argv(name=name)
        studio.jobs.add("train", name, words, project=project.id, expected=expected)

    def _argv(self, *, name: str = "", plan: bool = False) -> list[str]:
        """The command line of what the form says; reads and writes small files."""
        studio, dataset, settings = self._studio, self._project.dataset, self.settings
        values, recipe = settings.values, None
        if self._recipe is not None:
            values = {k: v for k, v in values.items() if v != settings.before.get(k, "")}
            folder = studio.settings.home / "recipes"
            recipe = training_form.keep_recipe(folder, self._recipe, values, same_images=True)
        if dataset is not None:
            words, labels = dataset.words(), studio.sets.corrections_path(dataset.id)
            corrections = labels if labels.is_file() else None
            parts = studio.runs.last_of(dataset.recipe())
        else:
            directory = self._directory()
            words, corrections = training_form.words_of_location(directory.location())
            fold = directory.read(RecordedRecipe).data.fold
            parts = directory if directory.split.is_file() and fold is None else None
        if parts is not None and not any(values.get(option) for option in SPLIT_OPTIONS):
            values = values | {"parts_of": str(parts.path)}
        if values.get("backbone"):
            values = values | {"backbone": text_of(studio, values["backbone"])}
        return training_form.argv(
            words, values, runs=studio.settings.runs, recipe=recipe, labels=corrections, name=name,
            track=settings.track, plan=plan,
        )  # fmt: skip
