"""Train: one click starts it, and the page follows it to its results."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from fastapi import Query
from nicegui import ui

from opsin.classical.classical_recipe import BACKBONE, ClassicalRecipe
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.errors import OpsinError, SourceError, StorageError
from opsin.core.format import counted
from opsin.core.recipe import flat_options
from opsin.data.run_images import recipe_of_run
from opsin.report.training_plan import Plan
from opsin.studio.context import Studio
from opsin.studio.jobs import training_form
from opsin.studio.jobs.job import Job
from opsin.studio.pages.jobs import cause_in_words
from opsin.studio.pages.page import Page
from opsin.studio.pages.terminal_training import continue_training, stop_training
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import SPLIT_OPTIONS, RunRow
from opsin.studio.ui import kit, layout
from opsin.studio.ui.kit import action, error_line, heading, link_button, note, question
from opsin.studio.ui.live_training import LiveTraining
from opsin.studio.ui.network_picker import known_networks, text_of
from opsin.studio.ui.training_levels import levels_for, time_in_words
from opsin.studio.ui.training_plan import Planner
from opsin.studio.ui.training_settings import TrainingSettings
from opsin.studio.words import safe

# Free bytes of the disk below which no training starts.
_FREE_LEAST: Final = 200_000_000


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
        if start and asked_here(ui.context.client.request.headers):
            await ui.context.client.connected()
            # In place of this address: a reload or the way back must not start another one.
            ui.run_javascript("history.replaceState(history.state, '', location.pathname)")
            if page.live is None and not page.wrong:
                await page.start()


PAGE = Page("/projects/{project}/train", train)


def asked_here(headers: Mapping[str, str]) -> bool:
    """Whether no other page, of this machine or another, led here."""
    return headers.get("sec-fetch-site") not in ("cross-site", "same-site")


class _TrainPage:
    """The form, or the training that runs."""

    def __init__(self, studio: Studio, project: Project) -> None:
        self._studio, self._project = studio, project
        self._counts: dict[str, int] = {}
        self._run: RunRow | None = None  # its settings are those to begin with
        self._recipe: RecordedRecipe | None = None
        self._planner: Planner | None = None
        self._planned: dict[str, float] = {}  # seconds of each phase of what the form says
        self._faults: ui.element | None = None
        self._shown: list[str] = []
        self._is_starting = False
        self.live: LiveTraining | None = None
        #: Why no training can start, however it is set.
        self.wrong = ""

    async def count(self) -> None:
        """Count the photographs of each class, as the page Photos does."""
        if self._project.dataset is not None:
            with suppress(OpsinError):  # reading says it
                album = await self._studio.albums.open(self._project.id, at_once=True)
                self._counts = album.counts

    def read(self, source_run: str = "") -> None:
        """Read what the form begins with, in a thread."""
        studio, project = self._studio, self._project
        before: dict[str, str] = {}
        if source_run:
            chosen = (row for row in project.runs if row.id == source_run)
            self._run = next(chosen, None) or project.classifier(source_run)  # which raises
            self._recipe = studio.runs.get(source_run).read(RecordedRecipe)
            before = training_form.values_of(self._recipe)
            if before.get("model") not in training_form.MODEL_WORDS:  # of an earlier version
                before["model"] = "auto"
        numbers: list[int] = []
        self._images, self._fault = f"The images of {safe(project.name)}", ""
        try:
            numbers = self._read_images()
        except OpsinError as error:
            self._fault, self.wrong = str(error), "The photographs cannot be read."
        heads = [row for row in project.runs if row.model == BACKBONE]
        network = ""
        if heads:
            with suppress(OpsinError):  # damaged
                recipe = RunDirectory(studio.runs.root / heads[0].folder).read(RecordedRecipe)
                network = training_form.values_of(recipe).get("backbone", "")
        levels = levels_for(
            sum(numbers), studio.jobs.jobs(), network=network,
            known=max((row.images or 0 for row in heads), default=0),
        )  # fmt: skip
        self.wrong = self.wrong or next(level.off for level in levels if level.name == "good")
        self.settings = TrainingSettings(
            levels, known_networks(studio), training_form.tracker_words(), before, self._change
        )

    def _read_images(self) -> list[int]:
        """The numbers of photographs of each class that has any; none where they are not known."""
        if self._project.dataset is None:
            recipe_of_run(self._directory())
            return []
        sources = map(Path, self._project.dataset.sources)
        if any(path.is_absolute() and not path.exists() for path in sources):
            raise SourceError(
                f"The photographs of {self._project.name} are no longer where they were",
                "Put them back, or add them again.",
            )
        if not self._counts:
            return []
        numbers = [number for number in self._counts.values() if number]
        classes = counted(len(numbers), "class", "classes")
        self._images = f"{counted(sum(numbers), 'photograph')} in {classes}"
        if len(numbers) < 2:
            self.wrong = "Photographs of two classes or more are needed."
        elif min(numbers) < 2:
            self.wrong = "Each class needs two photographs or more."
        return numbers

    def _directory(self) -> RunDirectory:
        """The run whose images the project has."""
        row = self._run or self._project.runs[0]
        return RunDirectory(self._studio.runs.root / row.folder)

    def _jobs(self) -> list[Job]:
        folders = {row.folder for row in self._project.runs}
        jobs = self._studio.jobs.of_project(self._project.id, folders)
        return [job for job in self._studio.progress.outside() if job.run in folders] + jobs

    def build(self, frame: layout.Frame) -> None:
        """Build the page."""
        self._frame = frame
        self._content = ui.element("div").classes("stack")
        self.show()

    def show(self) -> None:
        """Show the training that runs or waits, or the form."""
        jobs = self._jobs()
        ongoing = [job for job in jobs if not job.over]
        self._shown = [job.id for job in ongoing]
        self._content.clear()
        self._frame.actions.clear()
        self.live = self._planner = self._faults = None
        with self._content:
            if not ongoing:
                self._frame.retitle("Train")
                self._last(next(iter(jobs), None))
                self._form()
                return
            row = next((row for row in self._project.runs if row.folder == ongoing[0].run), None)
            title = self._project.title_of(row) if row else ongoing[0].title
            self._frame.retitle(f"Training {title}")
            folder = self._studio.runs.root / (ongoing[0].run or "")
            stop = functools.partial(stop_training, RunDirectory(folder))
            self.live = LiveTraining(self._studio, ongoing[0], stop)
            if ongoing[1:]:
                heading("Waiting")
            for job in ongoing[1:]:
                with ui.element("div").classes("line"):
                    ui.label(safe(job.title))
                    action("Do not train", lambda id_=job.id: self._remove(id_), needs="owner")

    async def follow(self, topic: str) -> None:
        """Go on with the training; at its end, lead to its results."""
        if topic != "jobs" and not topic.startswith("run"):
            return
        jobs = self._jobs()
        if self.live is not None:
            before = self.live.job
            job = next((job for job in jobs if job.id == before.id), before)
            row = self._studio.runs.find(job.run) if job.run else None
            state = job.state if job.argv else row.state if row else ""  # of one from elsewhere
            if state in ("done", "stopped") and row is not None and row.has_classifier:
                target = layout.address(self._project, "results", run=row.id)
                ui.run_javascript(f"location.replace({json.dumps(kit.rooted(target))})")
                return
        if topic == "runs" or [job.id for job in jobs if not job.over] != self._shown:
            self._project = await asyncio.to_thread(self._studio.projects.get, self._project.id)
        if [job.id for job in self._jobs() if not job.over] != self._shown:
            self.show()
        elif self.live is not None:
            await self.live.update(job)

    def _form(self) -> None:
        wrong = self.wrong
        if self._fault:
            error_line(self._fault)
        if self._run is not None:
            note(f"With the settings of {self._project.title_of(self._run)}.")
        ui.label(self._images).classes("step")
        self._promise = note("")
        if wrong:
            with ui.element("p").classes("warning"):
                ui.label(wrong)
        word = "Train again" if self._project.classifiers else "Train"
        with self._frame.actions:
            if wrong and self._project.dataset is not None:
                photos = layout.address(self._project, "photos")
                link_button("Add photographs", photos, kind="primary")
            self._button = action(word, self.start, kind="plain" if wrong else "primary", off=wrong,
                                  needs="owner")  # fmt: skip
        self._status = kit.StatusLine()
        question("More", self._more, is_open=self._run is not None)
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
            self._promise.set_text(f"{time.capitalize()}, with your settings.")
        self.settings.show_automatic(flat_options(plan.recipe.model_dump(mode="json")))

    def _change(self) -> None:
        """Say what would be trained now, or what is wrong."""
        if self.live is not None:
            return
        faults, level, price = self.settings.faults, self.settings.level, self.settings.price
        self._button.set_enabled(not faults and not self.wrong and allows("owner"))
        self._planned = {}
        promise = f"{level.words[:1].upper()}{level.words[1:]}." if level else price
        self._promise.set_text("" if self.wrong else promise)
        if self._faults is not None:
            self._faults.clear()
            with self._faults:
                for fault in faults:
                    error_line(fault)
        if self._planner is not None:
            if faults or price:
                self._planner.stop("There is no estimate yet.")
            else:
                self._planner.ask()

    def _last(self, job: Job | None) -> None:
        """Say how the last training of the studio ended, if it did not end by itself."""
        if job is None:
            return
        row = self._studio.runs.find(job.run) if job.run else None
        newest = next(iter(self._project.runs), None)
        is_old = newest is not None and (newest.started or 0.0) > (job.ended or 0.0)
        if is_old or (row.state if row else job.state) in ("running", "done"):
            return
        title = self._project.title_of(row) if row else job.title
        with ui.element("div").classes("card stack"):
            if job.state == "failed":
                cause = cause_in_words(self._studio, job.cause or "")
                error_line(f"{title} could not be trained to its end. {cause}")
            else:
                end = "is paused" if job.state == "paused" else "was stopped early"
                ui.label(f"{safe(title)} {end}.")
            with ui.element("div").classes("line"):
                word = "Continue" if row is not None and row.in_steps else "Try again"
                action(word, lambda: self._resume(job, row), needs="owner")
                if row is not None and row.has_classifier:
                    results = layout.address(self._project, "results", run=row.id)
                    link_button("See its results", results)
                action("Dismiss", lambda: self._remove(job.id), kind="quiet", needs="owner")

    async def _resume(self, job: Job, row: RunRow | None) -> None:
        if row is not None and row.in_steps:
            await self._do(lambda: continue_training(self._studio, row, job.title))
        else:
            await self._do(lambda: self._studio.jobs.resume(job.id))

    async def _remove(self, job_id: str) -> None:
        await self._do(lambda: self._studio.jobs.remove(job_id))
        self.show()

    async def _do(self, work: Callable[[], object]) -> None:
        await asyncio.to_thread(work)
        self._studio.changed.emit("jobs")

    async def start(self) -> None:
        """Add the training to the queue."""
        if self._is_starting:  # a second click
            return
        self._is_starting = True
        try:
            with self._status.errors():
                await asyncio.to_thread(self._add)
                if self._planner is not None:
                    self._planner.stop()
                self._studio.changed.emit("jobs")
        finally:
            self._is_starting = False

    def _add(self) -> None:
        studio, project = self._studio, self._project
        runs = studio.settings.runs
        free = shutil.disk_usage(runs if runs.is_dir() else studio.settings.home).free
        if free < _FREE_LEAST:
            raise StorageError("The disk is full", "Free some space, then try again.")
        title, level = project.next_title(self._jobs()), self.settings.level
        expected, words = level.expected if level else self._planned, self._argv(name=title)
        studio.jobs.add("train", title, words, project=project.id, expected=expected)

    def _argv(self, *, name: str = "", plan: bool = False) -> list[str]:
        """The command line of what the form says; reads and writes small files."""
        studio, dataset, settings = self._studio, self._project.dataset, self.settings
        values, recipe = settings.values, None
        if self._recipe is not None:
            values = {k: v for k, v in values.items() if v != settings.before.get(k, "")}
            folder = studio.settings.home / "recipes"
            recipe = training_form.keep_recipe(folder, self._recipe, values)
        if dataset is not None:
            words, corrections, parts = studio.projects.training_inputs(dataset)
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
