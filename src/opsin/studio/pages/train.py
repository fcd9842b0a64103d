"""Train: one click starts it, and the page follows it to its results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from fastapi import Query
from nicegui import background_tasks, ui

from opsin.classical.classical_recipe import BACKBONE, ClassicalRecipe
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.errors import OpsinError, SourceError
from opsin.core.format import count, counted, file_size
from opsin.core.recipe import Recipe, flat_options
from opsin.data.run_images import recipe_of_run
from opsin.report.training_plan import Plan
from opsin.studio.context import Studio
from opsin.studio.jobs import training_form
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import SPLIT_OPTIONS, RunRow
from opsin.studio.ui import kit, layout
from opsin.studio.ui.job_card import JobCard
from opsin.studio.ui.kit import action, error_line, heading, link_button, note, question
from opsin.studio.ui.live_training import LiveTraining
from opsin.studio.ui.training_levels import levels_for, time_in_words
from opsin.studio.ui.training_settings import TrainingSettings
from opsin.studio.words import safe

# Seconds without a change after which a plan is computed.
_QUIET: Final = 0.8
_PARTS: Final = {"train": "to learn from", "val": "to choose by", "test": "to test with"}


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


def _ids(jobs: list[Job]) -> list[tuple[str, bool]]:
    return [(job.id, job.over) for job in jobs]


class _TrainPage:
    """The form, or the training that runs."""

    def __init__(self, studio: Studio, project: Project) -> None:
        self._studio, self._project = studio, project
        self._counts: dict[str, int] = {}
        self._run: RunRow | None = None  # its settings are those to begin with
        self._planned: dict[str, float] = {}  # seconds of each phase of what the form says
        self._faults: ui.element | None = None
        self._estimate: ui.element | None = None
        self._changes = 0
        self._shown: list[tuple[str, bool]] = []
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
            before = training_form.values_of(studio.runs.get(source_run).read(RecordedRecipe))
            if before.get("model") not in training_form.MODEL_WORDS:  # it was imported
                before = {}
        numbers: list[int] = []
        self._images, self._fault = f"The images of {safe(project.name)}", ""
        try:
            numbers = self._read_images()
        except OpsinError as error:
            self._fault, self.wrong = str(error), "The photographs cannot be read."
        heads = [row for row in project.runs if row.model == BACKBONE]
        network = ""
        with suppress(OpsinError):  # damaged
            for row in heads[:1]:
                recipe = RunDirectory(studio.runs.root / row.folder).read(RecordedRecipe)
                network = training_form.values_of(recipe).get("backbone", "")
        known = max((row.images or 0 for row in heads), default=0)
        levels = levels_for(sum(numbers), studio.jobs.jobs(), network=network, known=known)
        self.wrong = self.wrong or next(level.off for level in levels if level.name == "good")
        self.settings = TrainingSettings(levels, before, self._change)

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
        outside = [job for job in self._studio.progress.outside() if job.run in folders]
        return outside + self._studio.jobs.of_project(self._project.id)

    def build(self, frame: layout.Frame) -> None:
        """Build the page."""
        self._frame = frame
        self._content = ui.element("div").classes("stack")
        self.show()

    def show(self) -> None:
        """Show the training that runs or waits, or the form."""
        jobs = self._jobs()
        ongoing = [job for job in jobs if not job.over]
        self._shown = _ids(jobs)
        self._content.clear()
        self._frame.actions.clear()
        self.live = self._estimate = self._faults = None
        with self._content:
            if not ongoing:
                self._frame.retitle("Train")
                newest = next((row.started or 0.0 for row in self._project.runs), 0.0)
                for job in jobs[:1]:
                    if job.state != "done" and newest <= (job.ended or 0.0):
                        JobCard(self._studio, job)
                self._form()
                return
            row = next((row for row in self._project.runs if row.folder == ongoing[0].run), None)
            title = self._project.title_of(row) if row else ongoing[0].title
            self._frame.retitle(f"Training {title}")
            self.live = LiveTraining(self._studio, ongoing[0])
            if ongoing[1:]:
                heading("Waiting")
            for job in ongoing[1:]:
                JobCard(self._studio, job)

    async def follow(self, topic: str) -> None:
        """Go on with the training; at its end, lead to its results."""
        if topic != "jobs" and not topic.startswith("run"):
            return
        jobs = self._jobs()
        if self.live is not None:
            before = self.live.card.job
            job = next((job for job in jobs if job.id == before.id), before)
            row = self._studio.runs.find(job.run) if job.run else None
            state = job.state if job.argv else row.state if row else ""  # of one from elsewhere
            if state in ("done", "stopped") and row is not None and row.has_classifier:
                target = layout.address(self._project, "results", run=row.id)
                ui.run_javascript(f"location.replace({json.dumps(kit.rooted(target))})")
                return
        if topic == "runs" or _ids(jobs) != self._shown:
            self._project = await asyncio.to_thread(self._studio.projects.get, self._project.id)
        if _ids(self._jobs()) != self._shown:
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
        self.settings.build_fields()
        heading("Estimate")
        self._estimating = kit.StatusLine()
        self._estimate = ui.element("div").classes("stack")
        self._change()

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
        self._changes += 1
        if self._estimate is not None and (faults or price):
            self._estimate.clear()
            self._estimating.say("There is no estimate yet.")
        elif self._estimate is not None:
            background_tasks.create(self._plan(self._estimate, self._changes), name="plan")

    async def _plan(self, place: ui.element, change: int) -> None:
        """Estimate the training, once nothing has changed for a moment; the newest wins."""

        def is_old() -> bool:
            return change != self._changes or place.is_deleted

        await asyncio.sleep(_QUIET)
        if is_old():
            return
        self._estimating.say("Estimating the time …")
        jobs = self._studio.jobs
        try:
            words = await asyncio.to_thread(self._argv, plan=True)
            asked = await JobAction.ask(jobs, "plan", "Estimate", words)
            try:
                if not await asked.over(left=is_old):
                    return
                plan, cause = await asked.answer(Plan)
            finally:
                await asyncio.to_thread(jobs.remove, asked.job.id)
            if plan is None:
                raise OpsinError(await asyncio.to_thread(self._studio.sets.in_names, cause))
        except OpsinError as error:
            if not is_old():
                place.clear()
                self._estimating.fail(kit.without_commands(str(error)))
            return
        if not is_old():
            self._estimating.clear()
            place.clear()
            with place:
                self._show_plan(plan)

    def _show_plan(self, plan: Plan) -> None:
        """Show what a training would be: its time, its figures and its doubts."""
        recipe = plan.recipe
        if self.settings.level is None and plan.seconds is not None:
            fits = isinstance(recipe, ClassicalRecipe) and not recipe.fine_tunes
            self._planned = {"start": 5.0, "heads" if fits else "epochs": plan.seconds,
                             "finish": 5.0}  # fmt: skip
            time = time_in_words(sum(self._planned.values()))
            self._promise.set_text(f"{time.capitalize()}, with your settings.")
        self.settings.show_automatic(flat_options(recipe.model_dump(mode="json")))
        images = [f"{count(n)} {_PARTS.get(part, part)}" for part, n in plan.images.items() if n]
        model = training_form.MODEL_WORDS.get(recipe.model.name, recipe.model.name)
        items = [("Model", model.partition(":")[0]), ("Photographs", " · ".join(images))]
        if isinstance(recipe, Recipe):
            items += [("Epochs", count(recipe.training.epochs)),
                      ("Parameters", count(plan.parameters or 0)),
                      ("Memory", f"about {file_size(plan.memory or 0)}")]  # fmt: skip
        kit.facts([*items, ("Computed on", plan.device)])
        for text in plan.notes:
            with ui.element("p").classes("warning"):
                ui.label(safe(text, 400))

    async def start(self) -> None:
        """Add the training to the queue."""
        if self._is_starting:  # a second click
            return
        self._is_starting = True
        try:
            with self._status.errors():
                await asyncio.to_thread(self._add)
                self._changes += 1  # nothing more is estimated
                self._studio.changed.emit("jobs")
        finally:
            self._is_starting = False

    def _add(self) -> None:
        title, level = self._project.next_title(self._jobs()), self.settings.level
        self._studio.jobs.add(
            "train", title, self._argv(name=title), project=self._project.id,
            expected=level.expected if level else self._planned,
        )  # fmt: skip

    def _argv(self, *, name: str = "", plan: bool = False) -> list[str]:
        """The command line of what the form says; reads small files."""
        studio, dataset, values = self._studio, self._project.dataset, self.settings.values
        if dataset is not None:
            words, corrections, parts = studio.projects.training_inputs(dataset)
        else:
            directory = self._directory()
            words, corrections = training_form.words_of_location(directory.location())
            fold = directory.read(RecordedRecipe).data.fold
            parts = directory if directory.split.is_file() and fold is None else None
        if parts is not None and not any(values.get(option) for option in SPLIT_OPTIONS):
            values = values | {"parts_of": str(parts.path)}
        return training_form.argv(
            words, values, runs=studio.settings.runs, labels=corrections, name=name,
            track=self.settings.track, plan=plan,
        )  # fmt: skip
