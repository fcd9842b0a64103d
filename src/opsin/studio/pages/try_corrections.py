"""Photographs that were answered wrong join the project; old and new are compared."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import about, count, counted
from opsin.data.image_tree import is_image_name
from opsin.runtime.prediction import Prediction
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.jobs import training_form
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import JobAction
from opsin.studio.projects import Project
from opsin.studio.runs.compared import Compared, verdict_on
from opsin.studio.runs.run_index import RunRow
from opsin.studio.threads import IMAGES
from opsin.studio.ui.kit import (
    StatusLine,
    action,
    ask_text,
    error_line,
    link_button,
    note,
    without_commands,
)
from opsin.studio.ui.layout import Frame
from opsin.studio.ui.training_levels import Level, levels_for
from opsin.studio.words import safe


class Corrections:
    """What is wrong in the answers of a classifier, and what is done about it."""

    def __init__(
        self, studio: Studio, project: Project, run: RunRow, frame: Frame,
        address: Callable[..., str],
    ) -> None:  # fmt: skip
        self._studio, self._project, self._run = studio, project, run
        self._frame, self._address = frame, address
        dataset = project.dataset
        self._set = dataset.id if dataset is not None and dataset.made_here else ""
        self._trains = False

    async def of_image(self, key: str, answer: Prediction) -> None:
        """Let people say that an answer is wrong, or say where the photograph went."""
        if not self._set:
            note("Is that wrong? The photographs of this project are kept elsewhere: add this one "
                 "to its class there, then train again.")  # fmt: skip
            return
        studio, albums, topic = self._studio, self._studio.albums, f"set:{self._set}"
        joined = studio.tried.joined
        holder, status = ui.element("div").classes("line"), StatusLine()

        async def show(changed: str = topic) -> None:
            if changed != topic:
                return
            class_, path = joined.get((self._set, key), ("", Path()))
            is_there = await IMAGES.run(path.is_file)  # another page may have removed it
            if holder.is_deleted:
                return
            holder.clear()
            with holder:
                if is_there:
                    ui.label(f"Added to your photographs of {safe(class_, 40)}.")
                    action("Undo", undo, kind="quiet", needs="labeller").props("dense")
                else:
                    _menu(answer, join)

        async def join(class_: str, is_new: bool = False) -> None:
            with status.errors():
                if is_new:
                    class_ = await albums.add_class(self._set, class_)
                kept = studio.tried.get(key)
                path = await albums.keep(self._set, class_, kept.content, kept.name)
                joined[self._set, key] = class_, path
                studio.changed.emit(topic)

        async def undo() -> None:
            with status.errors():
                _, path = joined[self._set, key]
                await albums.take_out(self._set, path)
                studio.changed.emit(topic)

        studio.changed.subscribe(show)
        await show()

    async def offer(self, changed: str = "") -> None:
        """Offer to train again where photographs came since the newest classifier."""
        if not self._set or self._trains or changed not in ("", f"set:{self._set}"):
            return
        number, level = await IMAGES.run(self._new)
        place = self._frame.actions
        if place.is_deleted or self._trains:
            return
        place.clear()
        if number:
            with place:
                note(counted(number, "new photograph"))
                seconds = f" ({about(level.seconds)})" if level.seconds else ""
                action(f"Train again{seconds}", self._train, kind="primary", needs="owner")

    def _new(self) -> tuple[int, Level]:
        """How many photographs came since the newest training, and what the next one takes."""
        newest, folder = self._project.classifier(), self._studio.sets.images_path(self._set)
        since = (newest and newest.started) or 0.0
        number, total = newer_images(folder, since)
        return number, levels_for(total, self._studio.jobs.jobs(), known=total - number)[1]

    async def _train(self) -> None:
        if not self._trains:
            self._trains = True  # a second click starts no second one
            try:
                job = await IMAGES.run(self._start)
            except BaseException:
                self._trains = False
                raise
            self._studio.changed.emit("jobs")
            ui.navigate.to(self._address(again=job.id))

    def _start(self) -> Job:
        """Add the training to the queue, with the parts of the last one."""
        studio, project = self._studio, self._studio.projects.get(self._project.id)
        for job in studio.jobs.of_project(project.id):
            if not job.over:  # another window was quicker
                return job
        _, level = self._new()
        source, corrections, parts = studio.projects.training_inputs(studio.sets.get(self._set))
        folders = {row.folder for row in project.runs}
        name = project.next_title(studio.jobs.of_project(project.id, folders))
        words = training_form.argv(
            source, level.options | ({"parts_of": str(parts.path)} if parts else {}),
            runs=studio.settings.runs, labels=corrections, name=name,
        )  # fmt: skip
        return studio.jobs.add("train", name, words, project=project.id, expected=level.expected)

    async def follow(self, job_id: str, holder: ui.element) -> None:
        """Show a training that was started here, then compare old and new."""
        self._trains, jobs = True, self._studio.jobs
        waited = JobAction(jobs, jobs.get(job_id))
        if waited.job.project != self._project.id:
            raise NotThere("This training belongs to another project", "Open that project.")
        with holder, ui.element("div").classes("line full-width").props('role="status"'):
            words = ui.label("Training starts")
            bar = ui.linear_progress(show_value=False).style("flex: 1 1 240px")
            bar.props["aria-label"] = "Training"

        def tell(_: str) -> None:
            now = self._studio.progress.of(jobs.get(job_id))
            bar.set_value(now.share or 0.0)
            words.set_text(now.left_in_words or now.step)

        if not await waited.over(tell, lambda: holder.is_deleted):
            return
        row = self._studio.runs.find(waited.job.run) if waited.job.run else None
        if waited.job.state not in ("done", "stopped") or row is None or not row.has_classifier:
            raise stopped(waited.job, "Train it again.")
        words.set_text("Comparing old and new")
        lines, fault = await self._compared(row, lambda: holder.is_deleted)
        if holder.is_deleted:
            return
        holder.clear()
        with holder, ui.element("div").classes("card stack").props('role="status"'):
            for line in lines:
                ui.label(safe(line, 600)).classes("prose")
            if fault is not None:
                error_line(fault)
            link_button("Compare", f"/compare?runs={self._run.id},{row.id}")
        with self._frame.actions:
            link_button("Try the new one", self._address(run=row.id, again=""), kind="primary")

    async def _compared(
        self, new: RunRow, left: Callable[[], bool]
    ) -> tuple[list[str], OpsinError | None]:
        """What a comparison says of the old and the new one, or why there is none."""
        project = await IMAGES.run(self._studio.projects.get, self._project.id)
        ids, names = [self._run.id, new.id], [project.title_of(self._run), project.title_of(new)]
        try:
            compared = await IMAGES.run(Compared, self._studio.runs, self._studio.jobs, ids, names)
            found = await compared.get(left)
        except OpsinError as error:
            return [], error
        if found is None:
            return [], None
        sentence, points = verdict_on(found.pairs[0], *names)
        right = [count(round(run.accuracy * found.images)) for run in found.runs]
        figures = f"right for {right[1]} of the same {count(found.images)}, before {right[0]}"
        return [f"{sentence}; {figures}.", points, *found.notes], None


def _menu(answer: Prediction, join: Callable[..., Awaitable[None]]) -> None:
    """The classes that a photograph may belong to instead."""

    async def ask(title: str, label: str, value: str = "") -> None:
        if name := await ask_text(title, label, value):
            await join(name, is_new=True)

    other = "A class for all that is none of these", "Name of the class", "other"
    with action("That is wrong", str, icon="flag", needs="labeller"), ui.menu(), ui.list():
        for name in answer.probabilities:
            if name != answer.label or answer.rejected:
                ui.menu_item(f"It is {safe(name, 60)}", lambda name=name: join(name))
        ui.separator()
        ui.menu_item("It is a new class…", lambda: ask("A new class", "What is it?"))
        ui.menu_item("It is none of these…", lambda: ask(*other))


def stopped(job: Job, advice: str) -> OpsinError:
    """The error of a job that did not come to its end, without what a terminal would add."""
    cause = without_commands(job.cause or "The work was stopped")
    return OpsinError(cause.rstrip("."), advice)


def newer_images(folder: Path, since: float) -> tuple[int, int]:
    """Count the images in the class folders of a set: those that came after a time, and all."""
    times = []
    with contextlib.suppress(OSError), os.scandir(folder) as classes:
        for class_ in classes:
            if class_.is_dir(follow_symlinks=False) and not class_.name.startswith("."):
                with os.scandir(class_.path) as files:
                    times += [file.stat().st_mtime for file in files if is_image_name(file.name)]
    return sum(time > since for time in times), len(times)
