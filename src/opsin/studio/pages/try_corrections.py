"""Photographs that were answered wrong join the project; old and new are compared."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import about, counted
from opsin.data.image_tree import is_image_name
from opsin.runtime.prediction import Prediction
from opsin.studio.context import Studio
from opsin.studio.errors import NotThere
from opsin.studio.jobs import training_form
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import JobAction
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit
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

    def of_image(self, key: str, answer: Prediction) -> None:
        """Let people say that an answer is wrong: the photograph joins the class that is right."""
        if not self._set:
            kit.note("Is that wrong? The photographs of this project are kept elsewhere: add this "
                     "one to its class there, then train again.")  # fmt: skip
            return
        studio, albums, status = self._studio, self._studio.albums, kit.StatusLine()

        async def join(class_: str, is_new: bool = False) -> None:
            with status.errors():
                if is_new:
                    class_ = await albums.add_class(self._set, class_)
                kept = studio.tried.get(key)
                path = await albums.keep(self._set, class_, kept.content, kept.name)

                async def undo() -> None:
                    await albums.take_out(self._set, path)
                    studio.changed.emit(f"set:{self._set}")

                self._frame.undo.offer(f"Added to your photographs of {safe(class_, 40)}.", undo)
                studio.changed.emit(f"set:{self._set}")

        async def ask(title: str, value: str = "") -> None:
            if name := await kit.ask_text(title, "Name of the class", value):
                await join(name, is_new=True)

        with kit.action("That is wrong", str, icon="flag", needs="labeller"), ui.menu():
            for name in answer.probabilities:
                if name != answer.label or answer.rejected:
                    ui.menu_item(f"It is {safe(name, 60)}", lambda name=name: join(name))
            ui.separator()
            ui.menu_item("It is a new class…", lambda: ask("A new class"))
            other = "A class for all that is none of these"
            ui.menu_item("It is none of these…", lambda: ask(other, "other"))

    async def offer(self, changed: str = "") -> None:
        """Offer to train again where photographs came since the newest classifier."""
        studio, place, newest = self._studio, self._frame.actions, self._project.classifier()
        if not self._set or changed not in ("", f"set:{self._set}"):
            return
        folder, since = studio.sets.images_path(self._set), (newest and newest.started) or 0.0
        number, total = await IMAGES.run(newer_images, folder, since)
        if place.is_deleted:
            return

        async def train() -> None:
            job = await IMAGES.run(self._start, level)
            studio.changed.emit("jobs")
            ui.navigate.to(self._address(again=job.id))

        place.clear()
        with place:
            if number:
                level = levels_for(total, studio.jobs.jobs(), known=total - number)[1]
                kit.note(counted(number, "new photograph"))
                seconds = f" ({about(level.seconds)})" if level.seconds else ""
                kit.action(f"Train again{seconds}", train, kind="primary", needs="owner")

    def _start(self, level: Level) -> Job:
        """Add the training to the queue, with the parts of the last one."""
        studio, project = self._studio, self._studio.projects.get(self._project.id)
        for job in studio.jobs.of_project(project.id):
            if not job.over:  # another window was quicker, or a second click
                return job
        source, corrections, parts = studio.projects.training_inputs(studio.sets.get(self._set))
        name = project.next_title(studio.jobs.of_project(project.id))
        words = training_form.argv(
            source, level.options | ({"parts_of": str(parts.path)} if parts else {}),
            runs=studio.settings.runs, labels=corrections, name=name,
        )  # fmt: skip
        return studio.jobs.add("train", name, words, project=project.id, expected=level.expected)

    async def follow(self, job_id: str, holder: ui.element) -> None:
        """Show a training that was started here; then lead to the comparison of old and new."""
        studio, jobs = self._studio, self._studio.jobs
        waited = JobAction(jobs, jobs.get(job_id))
        if waited.job.project != self._project.id:
            raise NotThere("This training belongs to another project", "Open that project.")
        with holder, ui.element("div").classes("line full-width").props('role="status"'):
            words = ui.label("Training starts")
            bar = ui.linear_progress(show_value=False).style("flex: 1 1 240px")
            bar.props["aria-label"] = "Training"

        def tell(_: str) -> None:
            now = studio.progress.of(jobs.get(job_id))
            bar.set_value(now.share or 0.0)
            words.set_text(now.left_in_words or now.step)

        if not await waited.over(tell, lambda: holder.is_deleted):
            return
        row = studio.runs.find(waited.job.run) if waited.job.run else None
        if waited.job.state not in ("done", "stopped") or row is None or not row.has_classifier:
            raise stopped(waited.job, "Train it again.")
        with holder:
            ui.navigate.to(f"/compare?runs={self._run.id},{row.id}")


def stopped(job: Job, advice: str) -> OpsinError:
    """The error of a job that did not come to its end, without what a terminal would add."""
    cause = kit.without_commands(job.cause or "The work was stopped")
    return OpsinError(cause.rstrip("."), advice)


def newer_images(folder: Path, since: float) -> tuple[int, int]:
    """Count the images in the class folders of a set: those that came after a time, and all."""
    times = []
    with contextlib.suppress(OSError):
        for file in folder.glob("[!.]*/*"):
            if is_image_name(file.name):
                times.append(file.stat().st_mtime)
    return sum(time > since for time in times), len(times)
