"""Try: a camera or photographs, and what the classifier answers."""

from __future__ import annotations

import functools
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nicegui import ui
from nicegui.events import KeyEventArguments

from opsin.core.errors import OpsinError
from opsin.core.format import count, counted, percent
from opsin.runtime.prediction import NONE_OF_THESE
from opsin.studio.datasets.upload_import import SentFile, common_name, file_name
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.pages.answer_tables import AnsweredImage, grouped, read_answered, read_answers
from opsin.studio.pages.page import Page
from opsin.studio.pages.try_answer import show_answer, show_nearest, show_picture
from opsin.studio.pages.try_corrections import Corrections
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.state import Studio
from opsin.studio.threads import IMAGES, UPLOADS
from opsin.studio.ui import layout
from opsin.studio.ui.folder_picker import FolderPicker
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.intake import Intake
from opsin.studio.ui.kit import (
    StatusLine,
    action,
    empty,
    error_line,
    heading,
    link_button,
    note,
    question,
)
from opsin.studio.words import safe

#: Images that are answered at once; more of them are a job.
MOST: Final = 50
_KEYS: Final = re.compile(r"[0-9a-f]{16}(,[0-9a-f]{16})*")
_PACKED: Final = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Asked:
    """What the address asks for.

    Args:
        project: The project.
        run: The classifier that answers.
        images: Keys in `PredictionSession`.
        job: The job that classifies many.
        at: Which of these images is shown large.
        again: The training that was started from here.
    """

    project: Project
    run: RunRow
    images: tuple[str, ...] = ()
    job: str = ""
    at: int | None = None
    again: str = ""

    def address(self, **changed: Any) -> str:
        """Return the address of something else."""
        new = replace(self, **changed)
        at = "" if new.at is None else str(new.at)
        return layout.address(
            new.project, "try", run=new.run.id, images=",".join(new.images), job=new.job, at=at,
            again=new.again,
        )  # fmt: skip


async def try_(
    studio: Studio,
    project: str,
    *,
    run: str = "",
    images: str = "",
    job: str = "",
    at: str = "",
    again: str = "",
) -> None:
    """Build the page."""
    found = await IMAGES.run(studio.projects.get, project)
    body = None
    with layout.page(
        studio, "Try", project=found, here="try", guide="how-to/predict.html"
    ) as frame:
        chosen = found.classifier(run)
        if chosen is None:
            empty(
                "Show it photographs here, or hold things before a camera, once it is trained.",
                "Train", layout.address(found, "train"),
            )  # fmt: skip
            return
        keys = tuple(images.split(",")[:MOST]) if _KEYS.fullmatch(images) else ()
        number = int(at) if at.isascii() and at.isdigit() and len(at) < 9 else None
        body = TryPage(studio, Asked(found, chosen, keys, job, number, again), frame)
        body.build()
    if body is not None:  # else an error is shown in its place
        await ui.context.client.connected()
        await body.fill()


PAGE = Page("/projects/{project}/try", try_)


class TryPage:
    """The page below its heading."""

    def __init__(self, studio: Studio, asked: Asked, frame: layout.Frame) -> None:
        self._studio, self._asked, self._frame = studio, asked, frame

    def build(self) -> None:
        """Show the classifier, a place for answers, and one for photographs."""
        asked = self._asked
        self._choice()
        self._corrections = Corrections(self._studio, asked.project, asked.run, self._frame)
        self._again = ui.element("div").style("margin-top: 16px")
        self._holder = ui.element("div").classes("stack").style("margin: 16px 0")
        if asked.images or asked.job:
            with self._holder:
                self._waiting = ui.label("Looking").classes("note").props('role="status"')
        has_answers = bool(asked.images or asked.job)
        with ui.element("div").classes("" if has_answers else "dropzone"):
            Intake(
                "Show it another" if has_answers else "Drop photographs, a folder or a zip here",
                batch=secrets.token_hex(8), folders=True, on_all=self._take, around=".page",
                live=f"/live/{asked.run.id}",
            ).classes("main")  # fmt: skip
        self._status = StatusLine()
        question("Photographs in a folder of this machine?", self._folders)

    async def _folders(self) -> None:
        picker = FolderPicker(self._studio.folders, "Try these photographs", self._choose)
        await picker.open()

    async def _choose(self, place: Callable[[], Path]) -> None:
        """Classify a folder or a file of this machine."""
        with self._status.errors():
            source = await UPLOADS.run(place)
            folder = await UPLOADS.run(new_output_folder, self._studio.jobs)
            ui.navigate.to(await UPLOADS.run(self._classify, source, source.name, folder))

    def _choice(self) -> None:
        """Say which classifier answers, and offer the others."""
        asked = self._asked
        rows = asked.project.classifiers
        names = {row.id: safe(asked.project.title_of(row), 60) for row in rows}
        if len(rows) == 1:
            verdict = asked.run.verdict
            note(f"{names[asked.run.id]}{', ' if verdict else ''}{verdict.lower()}")
            return
        options = {row.id: " · ".join(filter(None, (names[row.id], row.verdict))) for row in rows}
        ui.select(
            options, value=asked.run.id, label="Classifier", with_input=len(rows) > 12,
            on_change=lambda event: ui.navigate.to(
                asked.address(run=asked.project.classifier(event.value), again="")
            ),
        ).style("width: min(100%, 420px)")  # fmt: skip

    # What is given.

    async def _take(self, files: list[SentFile]) -> None:
        """Answer a few images at once; of many, or of a zip, make a job."""
        with self._status.errors():
            packed = any(file["name"].lower().endswith(_PACKED) for file in files)
            if packed or len(files) > MOST or any("/" in file["path"] for file in files):
                target = await self._many(files)
            else:
                target = await self._few(files)
            ui.navigate.to(target)

    async def _few(self, files: list[SentFile]) -> str:
        keys = []
        for file in files:
            content = await UPLOADS.run(self._studio.uploads.take, file["key"], file["name"])
            keys.append(self._studio.tried.put(content, file["name"]))
        return self._asked.address(images=tuple(dict.fromkeys(keys)), job="", at=None, again="")

    async def _many(self, files: list[SentFile]) -> str:
        folder = await UPLOADS.run(new_output_folder, self._studio.jobs)
        into = folder / file_name(common_name(files))
        try:
            source = await UPLOADS.run(self._studio.uploads.finish, files, into, labelled=False)
        except OpsinError:
            await UPLOADS.run(shutil.rmtree, folder, ignore_errors=True)
            raise
        name = f"{count(len(files))} images" if len(files) > 1 else files[0]["name"]
        return await UPLOADS.run(self._classify, source, name, folder)

    def _classify(self, source: Path, name: str, folder: Path) -> str:
        """Make a job of many images and return its address."""
        run = self._studio.runs.get(self._asked.run.id)
        argv = command(
            "predict", run.path.absolute(), source.absolute(), "--out",
            folder.absolute() / "answers.csv",
        )  # fmt: skip
        title = f"{safe(name, 60)} by {safe(self._asked.project.title_of(self._asked.run), 60)}"
        job = self._studio.jobs.add("predict", title, argv, run=run.path.name)
        return self._asked.address(images=(), job=job.id, at=None, again="")

    # What is answered.

    async def fill(self) -> None:
        """Show the answers, when the page is there."""
        asked = self._asked
        try:
            if asked.job:
                await self._follow()
            elif asked.images:
                await self._kept()
            if asked.again:
                await self._corrections.follow(asked.again, self._again, asked.address)
            else:
                await self._corrections.offer(lambda job: asked.address(again=job))
        except OpsinError as error:
            if not self._holder.is_deleted:
                self._holder.clear()
                with self._holder:
                    error_line(error)

    async def _kept(self) -> None:
        """Show the images of the address: one large, or all with their answers."""
        asked, tried = self._asked, self._studio.tried
        if len(asked.images) == 1 or asked.at is not None:
            at = min(asked.at or 0, len(asked.images) - 1)
            await self._one(asked.images[at], at, len(asked.images))
            return
        images: list[AnsweredImage] = []
        for key in asked.images:
            self._waiting.set_text(f"{len(images)} of {counted(len(asked.images), 'photograph')}")
            src = f"/kept/{key}.png"
            try:
                answer = await tried.answer(asked.run.id, key)
            except OpsinError as error:
                images.append(AnsweredImage(key, error=str(error)))
            else:
                images.append(
                    AnsweredImage(
                        answer.name, answer.answer, answer.label, answer.confidence, src=src
                    )
                )
        places = {image.src: at for at, image in enumerate(images)}
        self._groups(images, places)

    async def _follow(self) -> None:
        """Show how far a job is, then its answers: one large, or all."""
        asked, jobs = self._asked, self._studio.jobs
        waited = JobAction(jobs, jobs.get(asked.job))

        def tell(line: str) -> None:
            is_said = "so far" in line or "%" in line
            self._waiting.set_text(line if is_said else "Looking at each photograph")

        if not await waited.over(tell, lambda: self._holder.is_deleted):
            return
        if waited.job.state != "done":
            raise OpsinError(waited.job.cause or "The work was stopped", "Start it again.")
        images = await read_answers(jobs, asked.job)
        if asked.at is not None:
            kept = await read_answered(jobs, asked.job, asked.at)
            key = self._studio.tried.put(kept.content, kept.name)
            await self._one(key, asked.at, len(images))
        elif not self._holder.is_deleted:
            self._groups(images, {image.src: at for at, image in enumerate(images)})

    def _groups(self, images: Sequence[AnsweredImage], places: dict[str, int]) -> None:
        """Show images by their answer."""
        asked = self._asked
        groups = grouped(images)
        self._holder.clear()
        with self._holder:
            with ui.element("div").classes("line"):
                words = (f"{safe(name, 40)} {count(len(g))}" for name, g in groups.items() if name)
                ui.label(" · ".join(words)).classes("text-weight-bold")
                link_button("Try others", asked.address(images=(), job=""))
                if asked.job:
                    link_button("Save as a table", f"/answers/{asked.job}.csv", icon="table_view")
            note("The least sure answers come first. Click a photograph to see it large.")
            for name, group in groups.items():
                if not name:
                    heading(f"Could not be read ({count(len(group))})")
                    for image in group[:MOST]:
                        note(f"{Path(image.name).name}: {image.error}")
                    continue
                heading(
                    f"{'None of these' if name == NONE_OF_THESE else name} ({count(len(group))})"
                )
                ats = [places[image.src] for image in group]
                ImageGallery(
                    f"Photographs answered with {name}",
                    [_in_gallery(image) for image in group],
                    on_open=functools.partial(self._open, ats),
                )

    def _open(self, places: Sequence[int], at: int) -> None:
        ui.navigate.to(self._asked.address(at=places[at]))

    async def _one(self, key: str, at: int, of: int) -> None:
        """Show one image large, with its answer."""
        asked = self._asked
        answer = await self._studio.tried.answer(asked.run.id, key)
        if self._holder.is_deleted:
            return
        self._holder.clear()
        with self._holder:
            if of > 1:
                self._steps(at, of)
            with ui.element("div").classes("try"):
                show_picture(asked.project, asked.run, key, answer)
                with ui.element("div").classes("stack"):
                    show_answer(answer)
                    self._corrections.of_image(key, answer)
            question(
                "Which training photographs look most like it?",
                lambda: show_nearest(self._studio, asked.run, key),
            )

    def _steps(self, at: int, of: int) -> None:
        """Lead to the other images, by arrow keys too."""
        asked = self._asked

        def go(to: int) -> None:
            if 0 <= to < of:
                ui.navigate.to(asked.address(at=to))

        with ui.element("div").classes("line"):
            link_button(f"All {count(of)}", asked.address(at=None), icon="apps")
            off = ("" if at else "This is the first.", "" if at + 1 < of else "This is the last.")
            action("Previous", lambda: go(at - 1), kind="quiet", icon="chevron_left", off=off[0])
            note(f"{count(at + 1)} of {count(of)}")
            action("Next", lambda: go(at + 1), kind="quiet", icon="chevron_right", off=off[1])

        def press(event: KeyEventArguments) -> None:
            if event.action.keydown and (event.key.arrow_left or event.key.arrow_right):
                go(at + (1 if event.key.arrow_right else -1))

        ui.keyboard(press)


def _in_gallery(image: AnsweredImage) -> GalleryImage:
    name = Path(image.name).name
    other = f"{image.label}? " if image.answer == NONE_OF_THESE else ""
    caption = f"{other}{percent(image.confidence)} · {name}"
    return GalleryImage(f"{image.src}?small=1", f"{name}, {image.answer}", caption)
