"""Train: one click starts it, and the page follows it to its results."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import Query
from nicegui import background_tasks, ui

from opsin.classical.classical_recipe import BACKBONE, ClassicalRecipe
from opsin.core.artifacts.records import IMPORTED, DatasetRecord
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.errors import OpsinError
from opsin.core.format import count, counted, file_size
from opsin.core.recipe import flat_options
from opsin.report.training_plan import Plan
from opsin.studio.context import Studio
from opsin.studio.jobs import training_form
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.people import allows, why_not
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import SPLIT_OPTIONS, RunRow
from opsin.studio.ui import kit, layout
from opsin.studio.ui.kit import action, error_line, heading, link_button, note, question
from opsin.studio.ui.training_cards import JobCard, LiveTraining, cause_in_words
from opsin.studio.ui.training_settings import TrainingSettings, levels_for, time_in_words
from opsin.studio.words import safe

# Seconds without a change after which a plan is computed.
_QUIET: Final = 0.8
_PARTS: Final = {"train": "to learn from", "val": "to choose by", "test": "to test with"}


@Page("/projects/{project}/train")
async def train(
    studio: Studio,
    project: str,
    start: str = "",
    compare: str = "",
    source_run: Annotated[str, Query(alias="from")] = "",
) -> None:
    """Build it; ``compare`` is a classifier that the new one is then compared with."""
    now = await asyncio.to_thread(studio.projects.get, project)
    guide = "how-to/studio.html#train"
    with layout.page(studio, "Train", project=now, here="train", guide=guide) as frame:
        page = _TrainPage(studio, now)
        page.before = now.classifier(compare) if compare else None
        await page.read(source_run)
        page.build(frame)
        studio.changed.subscribe(page.follow, "jobs", "runs")
        if start and asked_here(ui.context.client.request.headers):
            await ui.context.client.connected()
            # In place of this address: a reload or the way back must not start another one.
            there = json.dumps(f"?compare={page.before.id}" if page.before else "")
            ui.run_javascript(
                f"history.replaceState(history.state, '', location.pathname + {there})"
            )
            if page.live is None and not page.wrong:
                await page.start()


def asked_here(headers: Mapping[str, str]) -> bool:
    """Whether no other page, of this machine or another, led here."""
    return headers.get("sec-fetch-site") not in ("cross-site", "same-site")


class _TrainPage:
    def __init__(self, studio: Studio, project: Project) -> None:
        self._studio, self._project = studio, project
        self._run: RunRow | None = None  # its settings are those to begin with
        self._planned: dict[str, float] = {}  # seconds of each phase of what the form says
        self._estimate: ui.element | None = None
        self._changes = 0
        self._shown: list[tuple[str, bool]] = []
        self._images, self._fault = f"The photographs of {safe(project.name)}", ""
        self.live: LiveTraining | None = None
        self.before: RunRow | None = None
        #: Why no training can start, however it is set.
        self.wrong = ""
        self._extended: RunRow | None = None  # the classifier that gets more classes
        self._more_classes: list[str] = []

    async def read(self, source_run: str = "") -> None:
        numbers: list[int] = []
        try:
            self._project = await self._studio.with_dataset(self._project.id)
            album = await self._studio.albums.open(self._project.id, at_once=True)
            numbers = [number for number in album.counts.values() if number]
            if numbers or album.dataset.made_here:  # else they were not read yet
                self.wrong = album.why_not_trainable()
            if not source_run:
                await asyncio.to_thread(self._read_new_classes, album.counts)
        except OpsinError as error:
            self._fault, self.wrong = str(error), "The photographs cannot be read."
        await asyncio.to_thread(self._read, numbers, source_run)

    def _read(self, numbers: list[int], source_run: str) -> None:
        studio, project, before = self._studio, self._project, dict[str, str]()
        if source_run:
            chosen = (row for row in project.runs if row.id == source_run)
            self._run = next(chosen, None) or project.classifier(source_run)  # which raises
            before = training_form.values_of(studio.runs.get(source_run).read(RecordedRecipe))
            if before.get("model") not in training_form.MODEL_WORDS:  # it was imported
                before = {}
        if numbers:
            classes = counted(len(numbers), "class", "classes")
            self._images = f"{counted(sum(numbers), 'photograph')} in {classes}"
        heads = (row.images or 0 for row in project.runs if row.model == BACKBONE)
        levels = levels_for(sum(numbers), studio.jobs.jobs(), known=max(heads, default=0))
        self.wrong = self.wrong or levels["Good"].off
        self.settings = TrainingSettings(levels, before, self._change)

    def _read_new_classes(self, counts: Mapping[str, int]) -> None:
        """Find the classes that the last classifier of these photographs does not know."""
        dataset, last = self._project.dataset, self._project.classifier()
        if dataset is None or not dataset.made_here or last is None or last.accuracy is None:
            return
        with contextlib.suppress(OpsinError):  # it is damaged
            known = self._studio.runs.get(last.id).read(DatasetRecord).classes
            if last.model != IMPORTED and all(counts.get(name) for name in known):
                self._more_classes = [name for name in counts if name not in known and counts[name]]
                self._extended = last if self._more_classes else None

    def _jobs(self) -> list[Job]:
        return self._studio.jobs.of_project(self._project.id)

    def build(self, frame: layout.Frame) -> None:
        self._frame = frame
        self._content = ui.element("div").classes("stack")
        self._show(self._jobs())

    def _show(self, jobs: list[Job]) -> None:
        """Show the training that runs or waits, or the last one and the form."""
        ongoing = [job for job in jobs if not job.over]
        self._shown = [(job.id, job.over) for job in jobs]
        self._content.clear()
        self._frame.actions.clear()
        self.live = self._estimate = None
        with self._content:
            if not ongoing:
                self._frame.retitle("Train")
                newest = next((row.started or 0.0 for row in self._project.runs), 0.0)
                if jobs and jobs[0].state != "done" and newest <= (jobs[0].ended or 0.0):
                    JobCard(self._studio, jobs[0])
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

    async def follow(self) -> None:
        """Go on with the training; at its end, lead to its results."""
        self._project = await asyncio.to_thread(self._studio.projects.get, self._project.id)
        if self._content.is_deleted:  # the window was closed
            return
        jobs, job = self._jobs(), None
        if self.live is not None:
            before = self.live.card.job
            job = next((job for job in jobs if job.id == before.id), before)
            row = self._studio.runs.find(job.run) if job.run else None
            if job.state in ("done", "stopped") and row is not None and row.has_classifier:
                target = layout.address(self._project, "results", run=row.id)
                if self.before is not None:
                    target = f"/compare?runs={self.before.id},{row.id}"
                ui.run_javascript(f"location.replace({json.dumps(kit.rooted(target))})")
                return
        if [(each.id, each.over) for each in jobs] != self._shown:
            self._show(jobs)
        elif self.live is not None and job is not None:
            await self.live.update(job)

    def _form(self) -> None:
        wrong = self.wrong
        if self._fault:
            error_line(self._fault)
        if self._run is not None:
            note(f"With the settings of {self._project.title_of(self._run)}.")
        ui.label(self._images).classes("step")
        self._promise = note("")
        with self._frame.actions:
            if wrong and self._project.dataset is not None:
                photos = layout.address(self._project, "photos")
                link_button("Add photographs", photos, kind="primary")
            self._button = action(
                "Train again" if self._project.classifiers else "Train",
                self.start,
                kind="plain" if wrong else "primary",
                off=wrong,
                needs="owner",
            )
        self._status = kit.StatusLine()
        if not self._fault:
            question("More", self._more, is_open=self._run is not None)
        self._change()

    def _more(self) -> None:
        self.settings.build_levels()
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
        faults, level = self.settings.faults, self.settings.level
        self._button.set_enabled(not faults and not self.wrong and allows("owner"))
        self._planned = {}
        promise = f"{level.words[:1].upper()}{level.words[1:]}." if level else ""
        if self._extended is not None and level is not None and not self.settings.values:
            names = ", ".join(safe(name, 40) for name in self._more_classes[:5])
            time = f": {time_in_words(level.seconds)}" if level.seconds else ""
            promise = f"Adds {names} to {self._project.title_of(self._extended)}{time}."
        wrong = self.wrong or " ".join(f"{fault.rstrip('.')}." for fault in faults)
        self._promise.set_text(why_not("owner") or wrong or promise)
        self._promise.classes(replace="warning" if wrong else "note prose")
        self._changes += 1
        if self._estimate is not None and faults:
            self._estimate.clear()
            self._estimating.say("There is no estimate yet.")
        elif self._estimate is not None:
            background_tasks.create(self._plan(self._estimate, self._changes), name="plan")

    async def _plan(self, place: ui.element, change: int) -> None:
        """Estimate the training, once nothing has changed for a moment; the newest wins."""

        def is_old() -> bool:
            return change != self._changes or place.is_deleted

        jobs = self._studio.jobs
        await asyncio.sleep(_QUIET)
        if is_old():
            return
        with self._estimating.errors():
            self._estimating.say("Estimating the time …")
            words = await asyncio.to_thread(self._argv, plan=True)
            asked = await JobAction.ask(jobs, "plan", "Estimate", words)
            try:
                if not await asked.over(left=is_old):
                    return
                plan, cause = await asked.answer(Plan)
            finally:
                await asyncio.to_thread(jobs.remove, asked.job.id)
            if is_old():
                return
            place.clear()
            if plan is None:
                raise OpsinError(cause_in_words(self._studio, cause))
            self._estimating.clear()
            with place:
                self._show_plan(plan)

    def _show_plan(self, plan: Plan) -> None:
        recipe = plan.recipe
        if self.settings.level is None and plan.seconds is not None:
            fits = isinstance(recipe, ClassicalRecipe) and not recipe.fine_tunes
            work = "heads" if fits else "epochs"
            self._planned = {"start": 5.0, work: plan.seconds, "finish": 5.0}
            time = time_in_words(sum(self._planned.values()))
            self._promise.set_text(f"{time.capitalize()}, with your settings.")
        self.settings.show_automatic(flat_options(recipe.model_dump(mode="json")))
        images = [f"{count(n)} {_PARTS.get(part, part)}" for part, n in plan.images.items() if n]
        items = [("Photographs", " · ".join(images)), ("Computed on", plan.device)]
        if plan.parameters is not None and plan.memory is not None:
            items += [("Parameters", count(plan.parameters)), ("Memory", file_size(plan.memory))]
        kit.facts(items)
        for text in plan.notes:
            ui.label(safe(text, 400)).classes("warning")

    async def start(self) -> None:
        self._button.disable()  # for a second click
        try:
            await asyncio.to_thread(self._add)
        except OpsinError as error:
            self._status.fail(error)
            self._button.enable()
        self._changes += 1  # nothing more is estimated
        self._studio.changed.emit("jobs")

    def _add(self) -> None:
        title, level = self._project.next_title(self._jobs()), self.settings.level
        expected, words = level.expected if level else self._planned, self._argv(name=title)
        self._studio.jobs.add("train", title, words, project=self._project.id, expected=expected)

    def _argv(self, *, name: str = "", plan: bool = False) -> list[str]:
        """The command line of what the form says; reads small files."""
        studio, values = self._studio, self.settings.values
        assert self._project.dataset is not None
        words, labels, parts = studio.projects.training_inputs(self._project.dataset)
        if self._extended is not None and not values:
            before = self._studio.runs.root / self._extended.folder
            words, parts = [f"--add-to={before}", *words], None
        if parts is not None and not any(values.get(option) for option in SPLIT_OPTIONS):
            values = values | {"parts_of": str(parts.path)}
        return training_form.argv(
            words, values, runs=studio.settings.runs, labels=labels, name=name, plan=plan
        )
