"""Try: give it images, see its answers."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, percent, with_interval
from opsin.core.glossary import find_term
from opsin.data.network_pixels import NO_CONTRAST
from opsin.runtime.prediction import CANNOT_TELL, Prediction
from opsin.studio.datasets.upload_import import SentFile, common_name, file_name
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout, terms
from opsin.studio.parts.answer_tables import ManyAnswers, answer_row, summary, table
from opsin.studio.parts.bars import bars
from opsin.studio.parts.embedded_page import figure
from opsin.studio.parts.gallery import GalleryImage, ImageGallery
from opsin.studio.parts.intake import Intake
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.parts.waiting_line import WaitingLine
from opsin.studio.state import Studio
from opsin.studio.threads import UPLOADS
from opsin.studio.words import safe

#: Images that are answered at once; more of them are a job.
MOST: Final = 50
# Classes that are shown with a bar.
_BARS: Final = 10
_KEYS: Final = re.compile(r"[0-9a-f]{16}(,[0-9a-f]{16})*")
_PACKED: Final = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class _TryRequest:
    """What the address asks for.

    Args:
        run: The run that answers.
        images: Keys in `PredictionSession`.
        folder: Id of a folder on this machine that is being chosen.
        job: The job that classifies many.
    """

    run: str = ""
    images: tuple[str, ...] = ()
    folder: str = ""
    job: str = ""

    def address(self, **changed: Any) -> str:
        """Return the address of something else."""
        new = replace(self, **changed)
        query = {
            "run": new.run, "images": ",".join(new.images), "folder": new.folder,
            "job": new.job,
        }  # fmt: skip
        return f"/try?{urlencode({k: v for k, v in query.items() if v}, safe=',')}"


async def try_(
    studio: Studio, run: str = "", images: str = "", folder: str = "", job: str = ""
) -> None:
    """Build it."""
    keys = tuple(images.split(",")[:MOST]) if _KEYS.fullmatch(images) else ()
    body = None
    with layout.page(studio, "Try a classifier", "/try", guide="how-to/predict.html"):
        able = _able(studio)
        if not able:  # a run may have ended since the last scan
            await asyncio.to_thread(studio.runs.scan)
            able = _able(studio)
        if not able:
            layout.empty(
                "Classify images with a trained run here. There are no runs yet.",
                "Train one",
                "/train",
            )
            return
        asked = _TryRequest(run or next(iter(able)), keys, folder, job)
        body = _TryBody(studio, asked, able)
        await body.build()
    if body is not None:  # else an error is shown in its place
        await ui.context.client.connected()
        await body.fill()


PAGE = Page("/try", try_, nav="Try", order=40)


def _able(studio: Studio) -> dict[str, str]:
    """Return the runs that can answer, with their names, the newest first."""
    return {
        row.id: f"{safe(row.name, 60)} · {with_interval(row.accuracy, row.low, row.high)}"
        for row in studio.runs.rows()
        if row.accuracy is not None
    }


class _TryBody:
    """The page below its heading."""

    def __init__(self, studio: Studio, asked: _TryRequest, able: dict[str, str]) -> None:
        self._studio = studio
        self._asked = asked
        self._able = able

    async def build(self) -> None:
        """Show what is asked for: a run, images, or a folder."""
        asked, studio = self._asked, self._studio
        row = studio.runs.row(asked.run)
        with layout.panel():
            self._able.setdefault(asked.run, safe(row.name, 60))
            ui.select(
                self._able,
                value=asked.run,
                label="Classifier",
                with_input=len(self._able) > 12,
                on_change=lambda event: ui.navigate.to(asked.address(run=event.value)),
            ).style("width: min(100%, 34rem); margin-bottom: .8rem")
            Intake(
                "Choose, drop, paste or take images. Several images give a table.",
                batch=secrets.token_hex(8),
                folders=True,
                on_all=self._take,
            )
            self._status = StatusLine()
            with (
                ui.expansion("A folder on this machine", value=bool(asked.folder)),
                ui.element("div").style("width: 100%"),
            ):
                await self._folders()
        self._holder = ui.element("div")
        if asked.images or asked.job:
            with self._holder:
                self._waiting = WaitingLine("Classifying")

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
        return self._asked.address(images=tuple(keys), job="", folder="")

    async def _many(self, files: list[SentFile]) -> str:
        folder = await asyncio.to_thread(new_output_folder, self._studio.jobs)
        into = folder / file_name(common_name(files))
        try:
            source = await UPLOADS.run(self._studio.uploads.finish, files, into, labelled=False)
        except OpsinError:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        name = f"{count(len(files))} images" if len(files) > 1 else files[0]["name"]
        place = str(source.relative_to(self._studio.settings.home))
        return await asyncio.to_thread(self._add, place, name, folder)

    def _add(self, source: str, name: str, folder: Path) -> str:
        """Make a job of many images and return its address."""
        run = self._studio.runs.get(self._asked.run)
        argv = command(
            "predict", run.path.absolute(), source, "--out", folder.absolute() / "answers.csv"
        )
        title = f"{safe(name, 60)} by {safe(self._studio.runs.row(self._asked.run).name, 60)}"
        job = self._studio.jobs.add("predict", title, argv, run=run.path.name)
        return self._asked.address(images=(), folder="", job=job.id)

    async def _folders(self) -> None:
        """Show the folders of this machine that may be looked into."""
        asked, folders = self._asked, self._studio.folders
        roots = folders.root_ids()
        try:
            where = asked.folder or (roots[0] if len(roots) == 1 else "")
            listings = [where] if where else list(roots)
            found = [await asyncio.to_thread(folders.list, each) for each in listings]
        except OpsinError as error:
            layout.error_line(error)
            return
        if not where:
            self._links([(each.here.id, each.here.name) for each in found])
            return
        (listing,) = found
        with ui.element("p").classes("op-row"):
            for above in listing.parents:
                ui.link(safe(above.name, 40), asked.address(folder=above.id))
            ui.label(safe(listing.here.name, 60))
        if listing.images or listing.folders:
            words = f"Classify all images in {safe(listing.here.name, 40)}"
            layout.action(words, lambda: self._classify(where, "folder"))
        self._links([(each.id, each.name) for each in listing.folders])
        with ui.element("div").classes("op-actions"):
            for file in listing.files:
                if file.name.lower().endswith(_PACKED):
                    self._file(file.id, file.name)

    def _file(self, file: str, name: str) -> None:
        layout.action(f"Classify {safe(name, 60)}", lambda: self._classify(file, "file"))

    def _links(self, entries: list[tuple[str, str]]) -> None:
        with ui.element("p").classes("op-row"):
            for entry, name in entries:
                ui.link(safe(name, 60), self._asked.address(folder=entry, job="", images=()))

    async def _classify(self, entry: str, kind: Literal["folder", "file"]) -> None:
        with self._status.errors():
            source = await asyncio.to_thread(self._studio.folders.path, entry, kind)
            folder = await asyncio.to_thread(new_output_folder, self._studio.jobs)
            ui.navigate.to(await asyncio.to_thread(self._add, str(source), source.name, folder))

    async def fill(self) -> None:
        """Show the answers, when the page is there."""
        try:
            if self._asked.job:
                await self._follow()
            elif len(self._asked.images) == 1:
                await self._one(self._asked.images[0])
            elif self._asked.images:
                await self._some()
        except OpsinError as error:
            if not self._holder.is_deleted:
                self._holder.clear()
                with self._holder:
                    layout.error_line(error)

    async def _one(self, key: str) -> None:
        """Show one image with its answer, and why."""
        asked = self._asked
        answer = await self._studio.tried.answer(asked.run, key)
        if self._holder.is_deleted:
            return
        self._holder.clear()
        with self._holder, ui.element("div").classes("op-columns op-below"):
            with layout.panel("Answer"):
                if answer.warning:
                    ui.label(f"{safe(answer.warning)}.".capitalize()).props("role=status")
                self._verdict(answer)
                bars(answer.top(_BARS), f"Probabilities of {answer.name}")
                for note in answer.notes:
                    if note == answer.warning:
                        continue
                    ui.label(safe(note)).classes("op-muted")
                inside = f"/runs/{quote(asked.run)}/inside?image=kept/{key}"
                with ui.element("p").classes("op-row"):
                    ui.link("What each layer sees", inside)
                    if answer.warning != NO_CONTRAST:
                        ui.link("Can you trust the heat map?", f"{inside}&view=why")
            with layout.panel("Why"), ui.element("div").classes("op-tried"):
                figure(f"/kept/{key}.png", "The image", safe(answer.name, 60))
                if answer.warning == NO_CONTRAST:
                    ui.label("There is no heat map of an image without contrast.")
                else:
                    figure(
                        f"/heat/{quote(asked.run)}/{key}.png",
                        f"Heat map: evidence for {answer.label}",
                        f"Hiding bright regions makes {safe(answer.label, 40)} less probable",
                    )
        with self._holder, layout.panel("Nearest training images"):
            near = ui.element("div")
            with near:
                waiting = WaitingLine("Looking for the nearest training images")
        await self._nearest(key, near, waiting)

    def _verdict(self, answer: Prediction) -> None:
        if answer.rejected:
            with ui.element("div").classes("op-answer"):
                terms.word("None of these")
            ui.label(
                f"It looks unlike the training images. Nearest: {safe(answer.label, 60)}, "
                f"{percent(answer.confidence)}."
            )
        else:
            said = f"{safe(answer.label, 60)}, {percent(answer.confidence)}"
            ui.label(said).classes("op-answer")
            told = answer.rejected is not None
            ui.label("Similar to the training images" if told else CANNOT_TELL).classes("op-muted")

    async def _nearest(self, key: str, near: ui.element, waiting: WaitingLine) -> None:
        """Show the training images that the network sees most like it."""
        found, failed = None, None
        try:
            found = await self._studio.inside.ask(
                self._asked.run, "nearest", on_progress=waiting.tell, kept=key
            )
        except OpsinError as error:
            failed = error
        if near.is_deleted:
            return
        near.clear()
        with near:
            if found is None:
                layout.error_line(failed or "")
                return
            shown = [
                GalleryImage(
                    f"{place}",
                    each.shown,
                    f"Training image {each.name}, class {each.class_name}",
                    f"{each.class_name} "
                    f"{'the same image' if each.same else format(each.similarity, '.3f')}",
                )
                for place, each in enumerate(found.nearest)
            ]
            ImageGallery(shown, "Nearest training images, the nearest first")
            with ui.element("p").classes("op-muted"):
                terms.word("The number is the cosine similarity", find_term("Cosine similarity"))
                ui.label("of the embeddings, 1 at most.")

    async def _some(self) -> None:
        """Show several images as a table, each with a link to its own page."""
        asked = self._asked
        rows = []
        for key in asked.images:
            try:
                rows.append(answer_row(key, await self._studio.tried.answer(asked.run, key)))
                rows[-1]["href"] = asked.address(images=(key,))
            except OpsinError as error:
                rows.append({"id": key, "src": "", "href": "", "said": safe(str(error), 300)})
        if self._holder.is_deleted:
            return
        self._holder.clear()
        with self._holder:
            table(rows)

    async def _follow(self) -> None:
        """Show how far a job is, then what it found."""
        jobs = self._studio.jobs
        asked = JobAction(jobs, jobs.get(self._asked.job))
        if not await asked.over(self._waiting.tell, lambda: self._holder.is_deleted):
            return
        said, cause = await asked.answer(ManyAnswers)
        if self._holder.is_deleted:
            return
        self._holder.clear()
        with self._holder:
            if said is None:
                layout.error_line(cause)
                return
            summary(asked.job, said)
