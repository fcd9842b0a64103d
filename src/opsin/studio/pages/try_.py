"""Try: a camera or photographs, and what the classifier answers."""

from __future__ import annotations

import functools
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nicegui import ui
from nicegui.events import KeyEventArguments

from opsin.core.errors import OpsinError
from opsin.core.format import count, counted, percent
from opsin.runtime.prediction import NONE_OF_THESE, Prediction
from opsin.studio.context import Studio
from opsin.studio.datasets.upload_import import SentFile, common_name, file_name
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.pages.answer_tables import AnsweredImage, grouped, read_answered, read_answers
from opsin.studio.pages.page import Page
from opsin.studio.pages.try_corrections import Corrections, stopped
from opsin.studio.pages.verdicts import in_short
from opsin.studio.projects import Project
from opsin.studio.runs.run_index import RunRow
from opsin.studio.threads import IMAGES, UPLOADS
from opsin.studio.ui import layout
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
    rooted,
    sharpen,
)
from opsin.studio.ui.maps import bars
from opsin.studio.words import safe

#: Images that are answered at once; more of them are a job.
MOST: Final = 50
_KEYS: Final = re.compile(r"[0-9a-f]{16}(,[0-9a-f]{16})*")
_PACKED: Final = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Classes that are shown with a bar.
_BARS: Final = 10


async def try_(
    studio: Studio, project: str, *, run: str = "", images: str = "", job: str = "", at: str = "",
    again: str = "",
) -> None:  # fmt: skip
    """Build the page: of some images, or of a job that classifies many; ``again`` trains."""
    now, body = await IMAGES.run(studio.projects.get, project), None
    with layout.page(studio, "Try", project=now, here="try", guide="how-to/predict.html") as frame:
        chosen = now.classifier(run)
        if chosen is None:
            words = "Show it photographs here, or hold things before a camera, once it is trained."
            empty(words, "Train", layout.address(now, "train"))
            return
        keys = images if _KEYS.fullmatch(images) else ""
        number = at if at.isascii() and at.isdigit() and len(at) < 9 else ""
        query = {"run": chosen.id, "images": keys, "job": job, "at": number, "again": again}
        body = TryPage(studio, now, chosen, query, frame)
    if body is not None:  # else an error is shown in its place
        await ui.context.client.connected()
        await body.fill()


PAGE = Page("/projects/{project}/try", try_)


class TryPage:
    """The page below its heading: the classifier, places for answers, one for photographs."""

    def __init__(
        self, studio: Studio, project: Project, run: RunRow, query: dict[str, str],
        frame: layout.Frame,
    ) -> None:  # fmt: skip
        self._studio, self._project, self._run, self._query = studio, project, run, query
        self._keys = [key for key in query["images"].split(",")[:MOST] if key]
        self._job, self._at = query["job"], int(query["at"]) if query["at"] else None
        self._choice()
        self._corrections = Corrections(studio, project, run, frame, self._address)
        self._again = ui.element("div").style("margin-top: 16px")
        self._holder = ui.element("div").classes("stack").style("margin: 16px 0")
        has_answers = bool(self._keys or self._job)
        if has_answers:
            with self._holder:
                self._waiting = ui.label("Looking").classes("note").props('role="status"')
        with ui.element("div").classes("" if has_answers else "dropzone"):
            Intake(
                "Show it another" if has_answers else "Drop photographs, a folder or a zip here",
                batch=secrets.token_hex(8), folders=True, on_all=self._take, around=".page",
                live=f"/live/{run.id}",
            ).classes("main")  # fmt: skip
        self._status = StatusLine()

    def _address(self, **changed: str) -> str:
        """The page's address, changed."""
        return layout.address(self._project, "try", **(self._query | changed))

    def _choice(self) -> None:
        """Say which classifier answers, and offer the others."""
        rows = self._project.classifiers
        names = {
            row.id: " · ".join(filter(None, (safe(self._project.title_of(row), 60), in_short(row))))
            for row in rows
        }
        if len(rows) == 1:
            note(names[self._run.id])
            return
        ui.select(
            names, value=self._run.id, label="Classifier", with_input=len(rows) > 12,
            on_change=lambda event: ui.navigate.to(self._address(run=event.value, again="")),
        ).style("width: min(100%, 420px)")  # fmt: skip

    # What is given.

    async def _take(self, files: list[SentFile]) -> None:
        """Answer a few images at once; of many, or of a zip, make a job."""
        with self._status.errors():
            packed = any(file["name"].lower().endswith(_PACKED) for file in files)
            if packed or len(files) > MOST or any("/" in file["path"] for file in files):
                job = await UPLOADS.run(self._classify, files)
                ui.navigate.to(self._address(images="", job=job, at="", again=""))
                return
            keys = []
            for file in files:
                content = await UPLOADS.run(self._studio.uploads.take, file["key"], file["name"])
                keys.append(self._studio.tried.put(content, file["name"]))
            images = ",".join(dict.fromkeys(keys))
            ui.navigate.to(self._address(images=images, job="", at="", again=""))

    def _classify(self, files: list[SentFile]) -> str:
        """Make a job of many images, and return its id."""
        studio, run = self._studio, self._studio.runs.get(self._run.id)
        folder = new_output_folder(studio.jobs)
        name = f"{count(len(files))} images" if len(files) > 1 else files[0]["name"]
        title = f"{safe(name, 60)} by {safe(self._project.title_of(self._run), 60)}"
        try:
            into = folder / file_name(common_name(files))
            source = studio.uploads.finish(files, into, labelled=False).absolute()
            table = folder.absolute() / "answers.csv"
            argv = command("predict", run.path.absolute(), source, "--out", table)
            return studio.jobs.add("predict", title, argv, run=run.path.name).id
        except OpsinError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    # What is answered.

    async def fill(self) -> None:
        """Show the answers, when the page is there."""
        try:
            if self._job:
                await self._follow()
            elif self._keys:
                await self._kept()
            if again := self._query["again"]:
                await self._corrections.follow(again, self._again)
            else:
                self._studio.changed.subscribe(self._corrections.offer)
                await self._corrections.offer()
        except OpsinError as error:
            if not self._holder.is_deleted:
                self._holder.clear()
                with self._holder:
                    error_line(error)

    async def _kept(self) -> None:
        """Show the images of the address: one large, or all with their answers."""
        total = len(self._keys)
        if total == 1 or self._at is not None:
            at = min(self._at or 0, total - 1)
            await self._one(self._keys[at], at, total)
            return
        images: list[AnsweredImage] = []
        for key in self._keys:
            self._waiting.set_text(f"{len(images)} of {counted(total, 'photograph')}")
            src = f"/kept/{key}.png"
            try:
                found = await self._studio.tried.answer(self._run.id, key)
            except OpsinError as error:
                images.append(AnsweredImage("", error=str(error), src=src))
            else:
                images.append(
                    AnsweredImage(found.name, found.answer, found.label, found.confidence, src=src)
                )
        self._groups(images)

    async def _follow(self) -> None:
        """Show how far a job is, then its answers: one large, or all."""
        jobs = self._studio.jobs
        waited = JobAction(jobs, jobs.get(self._job))

        def tell(line: str) -> None:
            is_known = "so far" in line or "%" in line
            self._waiting.set_text(line if is_known else "Looking at each photograph")

        if not await waited.over(tell, lambda: self._holder.is_deleted):
            return
        if waited.job.state != "done":
            raise stopped(waited.job, "Start it again.")
        images = await read_answers(jobs, self._job)
        if self._at is not None:
            kept = await read_answered(jobs, self._job, self._at)
            key = self._studio.tried.put(kept.content, kept.name)
            await self._one(key, self._at, len(images))
        else:
            self._groups(images)

    def _groups(self, images: Sequence[AnsweredImage]) -> None:
        """Show images by their answer."""
        if self._holder.is_deleted:
            return
        groups, places = grouped(images), {image.src: at for at, image in enumerate(images)}
        failed = groups.pop("", [])
        self._holder.clear()
        with self._holder:
            with ui.element("div").classes("line"):
                words = (f"{safe(_shown(name), 40)} {count(len(g))}" for name, g in groups.items())
                ui.label(" · ".join(words)).classes("text-weight-bold")
                link_button("Try others", self._address(images="", job=""))
                if self._job:
                    link_button("Save as a table", f"/answers/{self._job}.csv", icon="table_view")
            note("The least sure answers come first. Click a photograph to see it large.")
            for name, group in groups.items():
                heading(f"{_shown(name)} ({count(len(group))})")
                ats = [places[image.src] for image in group]
                ImageGallery(
                    f"Photographs answered with {name}", group, _in_gallery,
                    on_open=functools.partial(self._open, ats),
                )  # fmt: skip
            if failed:
                heading(f"Could not be read ({count(len(failed))})")
                for image in failed[:MOST]:
                    note(": ".join(filter(None, (Path(image.name).name, image.error))))

    def _open(self, places: Sequence[int], at: int) -> None:
        ui.navigate.to(self._address(at=str(places[at])))

    async def _one(self, key: str, at: int, of: int) -> None:
        """Show one image large, with its answer."""
        answer, fault = None, None
        try:
            answer = await self._studio.tried.answer(self._run.id, key)
        except OpsinError as error:
            fault = error
        if self._holder.is_deleted:
            return
        self._holder.clear()
        with self._holder:
            if of > 1:
                self._steps(at, of)
            if answer is None:
                error_line(fault or "")
                return
            with ui.element("div").classes("try"):
                self._picture(key, answer)
                with ui.element("div").classes("stack"):
                    _show_answer(answer)
                    await self._corrections.of_image(key, answer)

    def _steps(self, at: int, of: int) -> None:
        """Lead to the other images, by arrow keys too."""

        def go(to: int) -> None:
            if 0 <= to < of:
                ui.navigate.to(self._address(at=str(to)))

        with ui.element("div").classes("line"):
            link_button(f"All {count(of)}", self._address(at=""), icon="apps")
            off = ("" if at else "This is the first.", "" if at + 1 < of else "This is the last.")
            action("Previous", lambda: go(at - 1), kind="quiet", icon="chevron_left", off=off[0])
            note(f"{count(at + 1)} of {count(of)}")
            action("Next", lambda: go(at + 1), kind="quiet", icon="chevron_right", off=off[1])

        def press(event: KeyEventArguments) -> None:
            if event.action.keydown and (event.key.arrow_left or event.key.arrow_right):
                go(at + (1 if event.key.arrow_right else -1))

        ui.keyboard(press)

    def _picture(self, key: str, answer: Prediction) -> None:
        """The photograph, and on demand a heat map over it."""
        sources = (rooted(f"/kept/{key}.png"), rooted(f"/heat/{self._run.id}/{key}.png"))
        bright = f"Bright: hiding this makes {safe(answer.label, 40)} less probable."

        def toggle() -> None:
            is_heat = image.props["src"] == sources[0]
            image.props["src"] = sources[is_heat]
            image.update()
            button.set_text("Show the photograph" if is_heat else "Show where it looks")
            words.set_text("Hiding one part after another …" * is_heat)

        with ui.element("figure").classes("stack"):
            image = ui.element("img").classes("photo")
            sharpen(image)
            image.props.update({"src": sources[0], "alt": safe(answer.name, 60)})
            if answer.warning:
                return
            with ui.element("figcaption").classes("line"):
                button = action("Show where it looks", toggle, kind="quiet", icon="blur_on")
                words = note("").props('role="status"')
                why = {"run": self._run.id, "image": f"kept/{key}", "view": "why"}
                ui.link("Why this answer?", layout.address(self._project, "inside", **why))
        image.on("load", lambda: words.text and words.set_text(bright))
        image.on("error", lambda: words.set_text("There is no heat map of this photograph."))


def _show_answer(answer: Prediction) -> None:
    """The answer in large type, how far it is known, and the classes with bars."""
    nearest = f"{safe(answer.label, 60)}, {percent(answer.confidence)}"
    headline = ui.label(nearest).classes("headline")
    if answer.warning:
        headline.set_text("Nothing to recognise")
        ui.label(f"The photograph has no contrast. Nearest: {nearest}.").classes("warning")
    elif answer.rejected:
        headline.set_text("None of these")
        note(f"It looks unlike the training photographs. Nearest: {nearest}.")
    elif answer.rejected is None:
        note("This classifier cannot say when a photograph is none of its classes.")
    else:
        note("Similar to the training photographs.")
    bars([(name, share, percent(share)) for name, share in answer.top(_BARS)])
    for text in answer.notes:
        if text != answer.warning:
            note(f"{text[:1].upper()}{text[1:]}.")


def _shown(answer: str) -> str:
    return "None of these" if answer == NONE_OF_THESE else answer


def _in_gallery(image: AnsweredImage) -> GalleryImage:
    name = Path(image.name).name
    other = f"{image.label}? " if image.answer == NONE_OF_THESE else ""
    caption = f"{other}{percent(image.confidence)} · {name}"
    return GalleryImage(f"{image.src}?small=1", f"{name}, {_shown(image.answer)}", caption)
