"""Try: a camera or photographs, and what the classifier answers."""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from nicegui import ui

from opsin.core.csv_cells import read_row
from opsin.core.errors import OpsinError, SourceError
from opsin.core.files import FileStamp, file_stamp
from opsin.core.format import about, count, counted
from opsin.data.image_tree import is_image_name, is_within, natural
from opsin.data.images import content_of
from opsin.data.sources.archive import is_archive
from opsin.runtime.prediction import NONE_OF_THESE, Prediction
from opsin.studio.context import Studio
from opsin.studio.datasets.uploads import SentFile, class_name, common_name, file_name
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction, Queue, new_output_folder, output_of
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import classifier_select
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.runs.workers import GivenImage, png_for_pages
from opsin.studio.threads import IMAGES, UPLOADS
from opsin.studio.ui import kit, layout
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, ImageViewer
from opsin.studio.ui.intake import Intake
from opsin.studio.ui.layout import Frame
from opsin.studio.ui.maps import answer_view, confidence_of, framed
from opsin.studio.ui.training_settings import levels_for
from opsin.studio.words import safe

# Classes with a bar, and images that are named because they cannot be read.
_BARS, _NAMED = 10, 50


@Page("/projects/{project}/try")
async def try_(
    studio: Studio, project: str, *, run: str = "", image: str = "", job: str = ""
) -> None:
    """Build the page: of an image, or of a job that classifies many."""
    now = await IMAGES.run(studio.projects.get, project)
    with layout.page(studio, "Try", project=now, here="try", guide="how-to/predict.html") as frame:
        chosen = now.classifier(run)
        if chosen is None:
            words = "Show it photographs here, or hold things before a camera, once it is trained."
            kit.empty(words, "Train", layout.address(now, "train"))
            return
        content = _Try(studio, now, chosen, {"run": chosen.id, "image": image, "job": job}, frame)
        await ui.context.client.connected()
        await content.fill()


class AnsweredImage(NamedTuple):
    """An image's name, or path below the source, and its answer; ``error`` is why there is none."""

    name: str
    answer: str = ""
    label: str = ""
    confidence: float = 0.0
    error: str = ""

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts images by answer, the least sure first; those without a class are the last."""
        is_class = self.answer not in (NONE_OF_THESE, "")
        return not is_class, not self.answer, natural(self.answer), self.confidence


def read_answers(jobs: Queue, job_id: str) -> list[AnsweredImage]:
    """The images of an ended job in their order."""
    file = _file(jobs, job_id, "predict")
    return _read(file, file_stamp(file))


def read_answered(jobs: Queue, job_id: str, place: int) -> GivenImage:
    """An image of a job's table by its place: of the job's folder or archive, and none beside."""
    images, argv = read_answers(jobs, job_id), jobs.get(job_id).argv
    with contextlib.suppress(OSError, ValueError, IndexError, SourceError):
        folder = Path(argv[argv.index("predict") + 2]).resolve()
        path = (folder / images[place].name).resolve()
        if place >= 0 and is_within(str(path), str(folder)):
            return GivenImage("", path.name, content_of(path, path.name))
    raise NotThere("The photograph is not there any more", "Go back to the answers.")


def _file(jobs: Queue, job_id: str, kind: str = "") -> Path:
    job = jobs.get(job_id)
    file = output_of(job)
    if file is None or not file.is_file() or (kind and job.kind != kind):
        raise NotThere("There are no answers here", "Go back to Try and start again.")
    return file


@functools.lru_cache(4)
def _read(file: Path, _: FileStamp) -> list[AnsweredImage]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        columns, *rows = map(read_row, csv.reader(stream))
    cells = (dict(zip(columns, row, strict=False)) for row in rows)
    images = (
        AnsweredImage(
            row["image"], row["answer"], row["label"], float(row["confidence"] or 0), row["error"]
        )
        for row in cells
    )
    return sorted(images, key=lambda image: image.order)


class _Try:
    """The page below its heading: the classifier, answers, a place for photographs."""

    def __init__(
        self, studio: Studio, project: Project, run: RunRow, query: dict[str, str], frame: Frame
    ) -> None:
        self._studio, self._project, self._run, self._query = studio, project, run, query
        self._key, self._job = query["image"], query["job"]
        classifier_select(project, run, project.classifiers, "try", **query)
        dataset, self._frame = project.dataset, frame
        self._set = dataset.id if dataset is not None and dataset.made_here else ""
        self._holder = ui.element("div").classes("stack").style("margin: 16px 0")
        has_answers = bool(self._key or self._job)
        with self._holder:
            self._waiting = ui.label("Looking" * has_answers).classes("note").props('role="status"')
        with ui.element("div").classes("" if has_answers else "dropzone"):
            Intake(
                "Show it another" if has_answers else "Drop photographs, a folder or a zip here",
                batch=secrets.token_hex(8),
                folders=True,
                on_all=self._take,
                around=".page",
                live=f"/live/{run.id}",
            ).classes("main")
        self._status = kit.StatusLine()

    def _address(self, **changed: str) -> str:
        return layout.address(self._project, "try", **(self._query | changed))

    async def _take(self, files: list[SentFile]) -> None:
        """Answer one image at once; of several, or of a zip, make a job."""
        with self._status.errors():
            key, job, name = "", "", files[0]["name"]
            if len(files) > 1 or is_archive(Path(name)) or "/" in files[0]["path"]:
                job = await UPLOADS.run(self._classify, files)
            else:
                content = await UPLOADS.run(self._studio.uploads.take, files[0]["key"], name)
                key = self._studio.tried.put(content, name)
            ui.navigate.to(self._address(image=key, job=job))

    def _classify(self, files: list[SentFile]) -> str:
        """Make a job of many images, and return its id."""
        studio, run = self._studio, self._studio.runs.get(self._run.id)
        folder = new_output_folder(studio.jobs)
        name = files[0]["name"] if len(files) == 1 else f"{count(len(files))} photographs"
        into, table = folder.absolute() / file_name(common_name(files)), folder / "answers.csv"
        title = f"{safe(name, 60)} by {safe(self._project.title_of(self._run), 60)}"
        try:
            studio.uploads.finish(files, into, loose="images", needs="viewer")
            argv = command("predict", run.path.absolute(), into, "--out", table.absolute())
            return studio.jobs.add("predict", title, argv, run=run.path.name).id
        except OpsinError:  # such as: too many wait
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def fill(self) -> None:
        """Show the answers, when the page is there."""
        try:
            if self._job:
                await self._answers()
            elif self._key:
                await self._one(self._key)
            self._studio.changed.subscribe(self._offer, f"set:{self._set}")
            await self._offer()
        except OpsinError as error:
            if not self._holder.is_deleted:
                self._holder.clear()
                with self._holder:
                    kit.error_line(error)

    async def _answers(self) -> None:
        """Show how far a job is, then its answers."""
        waited = JobAction(jobs := self._studio.jobs, jobs.get(self._job))

        def tell(line: str) -> None:
            is_known = "so far" in line or "%" in line
            self._waiting.set_text(line if is_known else "Looking at each photograph")

        if not await waited.over(tell, lambda: self._holder.is_deleted):
            return
        if waited.job.state != "done":
            cause = waited.job.cause or "The work was stopped"
            raise OpsinError(cause.rstrip("."), "Start it again.")
        images, classes = await IMAGES.run(read_answers, jobs, self._job), tuple[str, ...]()
        if self._set and allows("labeller"):
            classes = (await self._studio.albums.open(self._set, at_once=True)).classes
        if not self._holder.is_deleted:
            self._holder.clear()
            with self._holder:
                self._groups(images, classes)

    def _groups(self, images: Sequence[AnsweredImage], classes: Sequence[str]) -> None:

        def describe(at: int) -> GalleryImage:
            name, answer, label, confidence, _ = images[at]
            name, other = Path(name).name, f"{label}? " if answer == NONE_OF_THESE else ""
            caption, shown = f"{other}{confidence_of(confidence)} · {name}", _shown(answer)
            src = f"/answers/{self._job}/{at}.png"
            alt = f"{name}, {shown}"
            return GalleryImage(f"{src}?small=1", alt, caption, large=src, lines=(shown,))

        async def join(at: int, class_: str | None) -> None:
            kept = await IMAGES.run(read_answered, self._studio.jobs, self._job, at)
            await self._join(class_ or "", kept)

        places, relabel = range(len(images)), join if classes else None
        viewer = functools.partial(
            ImageViewer, every=places, classes=classes, relabel=relabel, remove=""
        )

        def show(answer: str, places: list[int]) -> None:
            kit.heading(f"{_shown(answer)} ({count(len(places))})")
            if answer:
                title = f"Photographs answered with {answer}"
                ImageGallery(title, places, describe, on_open=viewer)
            for at in () if answer else places[:_NAMED]:
                kit.note(f"{Path(images[at].name).name}: {images[at].error}")

        with ui.element("div").classes("line"):
            kit.link_button("Try others", self._address(job=""))
            kit.link_button("Save as a table", f"/answers/{self._job}.csv", icon="table_view")
            kit.note("The least sure answers come first. Click a photograph to see it large.")
        for answer, group in itertools.groupby(places, lambda at: images[at].answer):
            show(answer, list(group))

    async def _one(self, key: str) -> None:
        answer = await self._studio.tried.answer(self._run.id, key)
        if self._holder.is_deleted:
            return
        self._holder.clear()
        with self._holder, ui.element("div").classes("try"):
            image = ui.element("img").classes("photo")
            image.props.update(
                {"src": kit.rooted(f"/kept/{key}.png"), "alt": safe(answer.name, 60)}
            )
            kit.sharpen(image)
            with ui.element("div").classes("stack"):
                answer_view(answer.top(_BARS), rejected=answer.rejected, warning=answer.warning)
                for text in answer.notes:
                    if text != answer.warning:
                        kit.note(f"{text[:1].upper()}{text[1:]}.")
                self._correct(key, answer)
            if not answer.warning:  # below the photograph, on a telephone after its answer
                kit.question("Where does it look?", lambda: self._where(key, answer.label))

    async def _where(self, key: str, label: str) -> None:
        with kit.Waiting("Hiding one part after another"):
            heat = await self._studio.tried.where(self._run.id, key)
        why = {"run": self._run.id, "image": key, "view": "why"}
        ui.link(
            "Other heat maps, with their checks", layout.address(self._project, "inside", **why)
        )
        words = f"Bright: hiding this makes {label} less probable."
        framed(heat.src(heat.values["image"]), f"Heat map. {words}", words)

    def _correct(self, key: str, answer: Prediction) -> None:
        """Let people say that an answer is wrong: the photograph joins the class that is right."""
        if not self._set:
            kit.note(
                "Is that wrong? The photographs of this project are kept elsewhere: add this "
                "one to its class there, then train again."
            )
            return
        status = kit.StatusLine()

        async def join(class_: str, is_new: bool = False) -> None:
            with status.errors():
                if is_new:
                    await self._studio.albums.add_class(self._set, class_ := class_name(class_))
                await self._join(class_, self._studio.tried.get(key))

        async def ask(title: str, value: str = "") -> None:
            if name := await kit.ask_text(title, "Name of the class", value):
                await join(name, is_new=True)

        with kit.action("That is wrong", lambda: None, icon="flag", needs="labeller"), ui.menu():
            for name in answer.probabilities:
                if name != answer.label or answer.rejected:
                    ui.menu_item(f"It is {safe(name, 60)}", lambda name=name: join(name))
            ui.separator()
            ui.menu_item("It is a new class…", lambda: ask("A new class"))
            other = "A class for all that is none of these"
            ui.menu_item("It is none of these…", lambda: ask(other, "other"))

    async def _join(self, class_: str, image: GivenImage) -> None:
        albums = self._studio.albums
        path = await albums.keep(self._set, class_, image.content, image.name)
        undo = functools.partial(albums.take_out, self._set, path)
        text = f"Added to your photographs of {safe(class_, 40)}."
        self._frame.undo.offer(text, undo, f"set:{self._set}")

    async def _offer(self) -> None:
        """Offer to train again where photographs came since the newest classifier."""
        studio, place, newest = self._studio, self._frame.actions, self._project.classifier()
        if not self._set:
            return
        folder, since = studio.sets.get(self._set).place, (newest and newest.started) or 0.0
        number, total = await IMAGES.run(newer_images, folder, since)
        if place.is_deleted:
            return
        there = layout.address(self._project, "train", start="1", compare=self._run.id)
        place.clear()
        with place:
            if number:
                level = levels_for(total, studio.jobs.jobs(), known=total - number)["Good"]
                kit.note(counted(number, "new photograph"))
                text = f"Train again ({about(level.seconds)})" if level.seconds else "Train again"
                go = functools.partial(ui.navigate.to, there)
                kit.action(text, go, kind="primary", needs="owner")


def newer_images(folder: Path, since: float) -> tuple[int, int]:
    """Count the images in the class folders of a set: those that came after a time, and all."""
    times = []
    with contextlib.suppress(OSError):
        files = (file for file in folder.glob("[!.]*/*") if is_image_name(file.name))
        times = [file.stat().st_mtime for file in files]
    return sum(time > since for time in times), len(times)


def _shown(answer: str) -> str:
    return {NONE_OF_THESE: "None of these", "": "Could not be read"}.get(answer, answer)


def add_routes(api: FastAPI, jobs: Queue) -> None:
    """Serve jobs' tables, and the images of those that classified."""

    @api.get("/answers/{job}/{place}.png")
    async def image(job: str, place: int, small: bool = False) -> Response:
        return await png_for_pages(await IMAGES.run(read_answered, jobs, job, place), small=small)

    @api.get("/answers/{job}.{kind}")
    async def answers(job: str, kind: str) -> Response:
        file = await IMAGES.run(_file, jobs, job)
        if file.suffix != f".{kind}":
            raise NotThere("The job has no such file", "Go back to the answers.")
        return FileResponse(file, filename=file.name)
