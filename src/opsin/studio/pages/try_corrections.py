"""Photographs that were answered wrong join the project; old and new are compared."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import about, count, counted
from opsin.data.image_tree import is_image_name
from opsin.report.side_by_side import Comparison
from opsin.runtime.prediction import Prediction
from opsin.studio.jobs import training_form
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import JobAction
from opsin.studio.projects import Project
from opsin.studio.runs.compared import Compared
from opsin.studio.runs.run_index import RunRow
from opsin.studio.state import Studio
from opsin.studio.threads import IMAGES
from opsin.studio.ui.kit import StatusLine, action, ask_text, error_line, link_button, note
from opsin.studio.ui.layout import Frame
from opsin.studio.ui.training_levels import Level, levels_for
from opsin.studio.words import safe


class Corrections:
    """What is wrong in the answers of a classifier, and what is done about it."""

    def __init__(self, studio: Studio, project: Project, run: RunRow, frame: Frame) -> None:
        self._studio, self._project, self._run, self._frame = studio, project, run, frame
        self._offer: Callable[[str], str] = str
        self._following = False

    def of_image(self, key: str, answer: Prediction) -> None:
        """Let people say that an answer is wrong, or say where the photograph went."""
        holder, status = ui.element("div").classes("line"), StatusLine()

        def show() -> None:
            holder.clear()
            with holder:
                if key in self._studio.tried.joined:
                    class_, _ = self._studio.tried.joined[key]
                    ui.label(f"Added to your photographs of {safe(class_, 40)}.")
                    action("Undo", undo, kind="quiet").props("dense")
                else:
                    self._menu(answer, join, add_class, lambda: status.say(_NOT_ADDED))

        async def join(class_: str) -> None:
            with status.errors():
                await self._join(key, class_)
                show()

        async def add_class() -> None:
            name = await ask_text("A new class", "What is it?")
            if name:
                with status.errors():
                    await join(await self._studio.albums.add_class(self._set_id, name))

        async def undo() -> None:
            with status.errors():
                _, path = self._studio.tried.joined[key]
                await self._studio.albums.take_out(self._set_id, path)
                del self._studio.tried.joined[key]
                await self._changed()
                show()

        show()

    def _menu(
        self, answer: Prediction, join: Any, add_class: Any, none: Callable[[], object]
    ) -> None:
        dataset = self._project.dataset
        if dataset is None or not dataset.made_here:
            with ui.expansion("That is wrong", icon="flag").classes("full-width"):
                note(_ELSEWHERE)
            return
        with (
            action("That is wrong", lambda: None, icon="flag", needs="labeller"),
            ui.menu(),
            ui.list(),
        ):
            for name in answer.probabilities:
                if name != answer.label or answer.rejected:
                    ui.menu_item(f"It is {safe(name, 60)}", lambda name=name: join(name))
            ui.separator()
            ui.menu_item("It is a new class…", add_class)
            ui.menu_item("It is none of these", none)

    @property
    def _set_id(self) -> str:
        assert self._project.dataset is not None
        return self._project.dataset.id

    async def _join(self, key: str, class_: str) -> None:
        kept, albums = self._studio.tried.get(key), self._studio.albums
        path = await albums.keep(self._set_id, class_, kept.content, kept.name)
        self._studio.tried.joined[key] = class_, path
        await self._changed()

    async def _changed(self) -> None:
        self._studio.changed.emit(f"set:{self._set_id}")
        await self.offer(self._offer)

    async def offer(self, address: Callable[[str], str]) -> None:
        """Offer to train again where photographs came since the newest classifier."""
        self._offer = address
        number, level = await IMAGES.run(self._new)
        place = self._frame.actions
        if place.is_deleted or self._following:
            return
        place.clear()
        if number:
            with place:
                note(counted(number, "new photograph"))
                seconds = f" ({about(level.seconds)})" if level.seconds else ""
                action(f"Train again{seconds}", self._train, kind="primary", needs="owner")

    def _new(self) -> tuple[int, Level]:
        """How many photographs came since the newest training, and what the next one takes."""
        dataset, newest = self._project.dataset, self._project.classifier()
        number = total = 0
        if dataset is not None and dataset.made_here and newest is not None:
            folder = self._studio.sets.images_path(dataset.id)
            number, total = newer_images(folder, newest.started or 0.0)
        return number, levels_for(total, self._studio.jobs.jobs(), known=total - number)[1]

    async def _train(self) -> None:
        job = await IMAGES.run(self._start)
        self._studio.changed.emit("jobs")
        ui.navigate.to(self._offer(job.id))

    def _start(self) -> Job:
        """Add the training to the queue, with the parts of the last one."""
        studio, project = self._studio, self._studio.projects.get(self._project.id)
        dataset = studio.sets.get(self._set_id)
        _, level = self._new()
        parts = studio.runs.last_of(dataset.recipe())
        corrections = studio.sets.corrections_path(dataset.id)
        name = f"{project.name} {count(len(project.runs) + 1)}"
        words = training_form.argv(
            dataset.words(), level.options | ({"parts_of": str(parts.path)} if parts else {}),
            runs=studio.settings.runs, labels=corrections if corrections.is_file() else None,
            name=name,
        )  # fmt: skip
        return studio.jobs.add("train", name, words, project=project.id, expected=level.expected)

    async def follow(self, job_id: str, holder: ui.element, address: Callable[..., str]) -> None:
        """Show a training that was started here, then compare old and new."""
        self._following = True
        jobs = self._studio.jobs
        waited = JobAction(jobs, jobs.get(job_id))
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
            raise OpsinError(waited.job.cause or "The training was stopped", "Train it again.")
        words.set_text("Comparing old and new")
        await self._compare(row, holder, address)

    async def _compare(self, new: RunRow, holder: ui.element, address: Callable[..., str]) -> None:
        project = await IMAGES.run(self._studio.projects.get, self._project.id)
        ids, names = [self._run.id, new.id], [project.title_of(self._run), project.title_of(new)]
        compared = await IMAGES.run(Compared, self._studio.runs, self._studio.jobs, ids)
        found, error = await IMAGES.run(compared.known), None
        if found is None:
            waited = JobAction(self._studio.jobs, await IMAGES.run(compared.start))
            await waited.over(left=lambda: holder.is_deleted)
            try:
                found = await IMAGES.run(compared.result, waited.job)
            except OpsinError as failed:
                error = failed
        if holder.is_deleted:
            return
        holder.clear()
        with holder, ui.element("div").classes("card line").props('role="status"'):
            if found is None:
                error_line(error or "")
            for sentence in in_sentences(found, *names) if found else ():
                ui.label(sentence)
            link_button("Compare", f"/compare?runs={','.join(ids)}")
        with self._frame.actions:
            link_button(f"Try {safe(names[1], 40)}", address(run=new, again=""), kind="primary")


_NOT_ADDED = (
    "It is not added: each of your photographs belongs to a class. If such things come often, "
    "make a class of them, “other”, say."
)
_ELSEWHERE = (
    "The photographs of this project lie in a place of their own, and stay as they are there. Add "
    "this one to its class in that place, then train again."
)


def newer_images(folder: Path, since: float) -> tuple[int, int]:
    """Count the images in the class folders of a set: those that came after a time, and all."""
    times = []
    with contextlib.suppress(OSError), os.scandir(folder) as classes:
        for class_ in classes:
            if class_.is_dir(follow_symlinks=False) and not class_.name.startswith("."):
                with os.scandir(class_.path) as files:
                    times += [file.stat().st_mtime for file in files if is_image_name(file.name)]
    return sum(time > since for time in times), len(times)


def in_sentences(found: Comparison, old: str, new: str) -> Sequence[str]:
    """Compare two classifiers on the same photographs, corrections of the measure apart."""
    old, new, number = safe(old, 40), safe(new, 40), found.images
    before, after = (count(round(run.accuracy * number)) for run in found.runs)
    figures = f"right for {after} of the same {count(number)} photographs, {old} for {before}"
    sentences = [
        {
            "B": f"{new} is better: {figures}.",
            "A": f"{new} is worse: {figures}.",
        }.get(str(found.pairs[0].better), f"No clear winner: {new} is {figures}.")
    ]
    for name, run in zip((old, new), found.runs, strict=True):
        if run.rescored and run.reported:
            right = count(round(run.reported.accuracy * run.reported.images))
            sentences.append(
                f"{counted(run.rescored, 'label')} of these were corrected since {name} was "
                f"measured; with the labels of then it was right for {right} of "
                f"{count(run.reported.images)}."
            )
    return sentences
