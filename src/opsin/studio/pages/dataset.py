"""One set: its classes, findings and images."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

from fastapi import Query
from nicegui import background_tasks, ui

from opsin.core.errors import OpsinError, SourceError
from opsin.core.format import count, counted, grey_or_colour
from opsin.data.image_tree import left_out_in_words
from opsin.studio.datasets.corrections import Corrections
from opsin.studio.datasets.decoded_dataset import PARTS, DecodedDataset
from opsin.studio.jobs.queue import JobAction
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout
from opsin.studio.parts.audit_list import findings_list
from opsin.studio.parts.class_table import ClassTable
from opsin.studio.parts.dataset_intake import AddImagesPanel
from opsin.studio.parts.export_panel import ExportPanel
from opsin.studio.parts.features_panel import FeaturesPanel
from opsin.studio.parts.label_editor import ImageFilter, LabelEditor
from opsin.studio.parts.network_choice import known_networks
from opsin.studio.parts.preview import Preview
from opsin.studio.runs.dataset_cache import NotDecoded
from opsin.studio.state import Studio
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset
    from opsin.studio.jobs.job import Job


async def show(
    studio: Studio,
    *,
    set_id: str,
    class_: Annotated[str, Query(alias="class")] = "",
    part: str = "",
    finding: str = "",
    page: str = "",
) -> None:
    """Build it."""
    the_set = await asyncio.to_thread(studio.sets.get, set_id)
    wanted = ImageFilter.of(the_set.id, class_, part, finding, page)
    with layout.page(studio, the_set.title, "/data", guide="how-to/data.html"):
        await _SetPage(studio, the_set, wanted).build()


PAGE = Page("/data/{set_id}", show)


class _SetPage:
    """The page of one window: built as soon as the images are there, and again with news.

    Args:
        studio: What all windows share.
        the_set: The set.
        wanted: Which of its images are shown.
    """

    def __init__(self, studio: Studio, the_set: LibraryDataset, wanted: ImageFilter) -> None:
        self._studio, self._set, self._wanted = studio, the_set, wanted
        self._opened: DecodedDataset | None = None
        self._corrections: Corrections | None = None
        self._side: ui.element | None = None
        self._following = self._due = False
        self._picking: LabelEditor | None = None

    async def build(self) -> None:
        """Build what is known now, and follow what is read."""
        self._summary = ui.label("").classes("op-muted")
        with ui.element("div").classes("op-actions"):
            ui.link("Train with these", f"/train?set={self._set.id}").classes("op-button")
            ui.link("All datasets", "/data")
        self._news = ui.element("div").props('role="status"')
        if self._set.made_here:
            names = await asyncio.to_thread(self._studio.sets.classes, self._set.id)
            AddImagesPanel(self._studio, self._set, names, self._added)
        self._body = ui.element("div")
        # Images that are not open yet take a moment; the page is there before them.
        if not self._studio.opened.is_open(self._set.id):
            await ui.context.client.connected()
        try:
            await self._open()
            await self._fill()
        except OpsinError as error:  # the rest of the page can be used all the same
            self._say(str(error), wrong=True)
        self._studio.changed.subscribe(self._hear)
        if not self._studio.opened.is_fresh(self._set.id):
            background_tasks.create(self._follow(), name=f"set {self._set.id}")

    async def _open(self) -> bool:
        """Open the images; return whether they are there."""
        try:
            self._opened = await self._studio.opened.of_set(self._set.id)
        except NotDecoded:
            self._opened = None
            return False
        except SourceError:
            self._opened = None
            if self._set.made_here and not any(await self._listed()):
                return False
            raise
        await self._studio.opened.look(self._set.id)
        return True

    async def _listed(self) -> list[int]:
        """Return how many files each class has."""
        glance = await asyncio.to_thread(self._studio.sets.glance, self._set.id)
        return list((glance.counts or {}).values())

    async def _added(self) -> None:
        """Read what came in, and tell the page of all sets."""
        self._studio.changed.emit(f"set:{self._set.id}")
        background_tasks.create(self._follow(), name=f"set {self._set.id}")

    async def _hear(self, topic: str) -> None:
        """Another window has corrected something."""
        if topic == f"set:{self._set.id}" and self._picking:
            await self._picking.refresh()
            await self._count()

    async def _follow(self) -> None:
        """Ask for a look where one is due, tell how far it is, and show what it found."""
        self._due = True
        if self._following:
            return  # the one that does will see to it
        self._following = True
        try:
            while self._due and not self._body.is_deleted:
                self._due = False
                job = await asyncio.to_thread(self._studio.sets.look, self._set.id)
                await self._check_sources()
                if job is None:
                    await self._tell_failure()
                else:
                    # Files that came in meanwhile want another look.
                    self._due = await self._wait(job) or self._due
        except OpsinError as error:
            self._say(str(error), wrong=True)
        finally:
            self._following = False

    async def _tell_failure(self) -> None:
        """Say why the last look found nothing, if so: it is not tried again by itself."""
        job = (await asyncio.to_thread(self._studio.sets.glance, self._set.id)).job
        if job is not None and job.over and job.state != "done":
            self._say(job.cause or "The check of these images was stopped.", again=True)
        else:
            self._say("")

    async def _check_sources(self) -> None:
        """Open the images again where their files have changed and were read since."""
        if await self._studio.opened.changed(self._set.id) and await self._open():
            await self._fill()

    async def _wait(self, job: Job) -> bool:
        """Wait for a look; return whether it found something."""
        asked = JobAction(self._studio.jobs, job)

        async def tell(line: str) -> None:
            if self._opened is None and await self._open():
                await self._fill()
            doing = "Looking for duplicates, odd images and doubtful classes"
            if self._opened is None:
                doing = "Reading the images for the first time"
            self._say(f"{doing} … {' '.join(line.split())}".strip())

        if not await asked.over(tell, lambda: self._body.is_deleted):
            return False
        if asked.job.state != "done":
            await self._tell_failure()
            return False
        if await self._open():
            await self._fill()
        return True

    def _say(self, text: str, *, wrong: bool = False, again: bool = False) -> None:
        """Show one line of news; nothing where there is none."""
        if self._news.is_deleted:
            return
        self._news.clear()
        with self._news:
            if again or wrong:
                layout.error_line(text)
            elif text:
                ui.label(safe(text, 400)).classes("op-muted")
            if again:
                with ui.element("div").classes("op-actions"):
                    layout.action("Check again", self._look_again)

    async def _look_again(self) -> None:
        try:
            await asyncio.to_thread(self._studio.sets.look, self._set.id, again=True)
        except OpsinError as error:
            self._say(str(error), wrong=True)
            return
        await self._follow()

    async def _fill(self) -> None:
        """Show the images and what is known about them."""
        networks = await asyncio.to_thread(known_networks, self._studio)
        opened = self._opened
        if self._body.is_deleted:
            return
        if opened is not None:
            self._summary.set_text(_summary(opened))
        if self._picking and self._side and self._picking.opened is opened:
            # The current selection stays.
            self._side.clear()
            with self._side:
                await self._facts(self._picking.opened)
            await self._picking.refresh()
            return
        made: Corrections | None = None
        problem: OpsinError | None = None
        if opened is not None:
            try:
                made = await self._studio.opened.corrections_of(self._set.id)
                await asyncio.to_thread(made.now)
            except OpsinError as error:
                made, problem = None, error
        self._corrections = made
        self._body.clear()
        with self._body:
            if problem:
                layout.error_line(problem)
            if opened is None:
                layout.empty(
                    "No images yet: add some to each class above."
                    if self._set.made_here
                    else "Images and findings appear here as soon as the images are read."
                )
                return
            side = "op-set" + (" op-set-filtered" if self._wanted.filtered else "")
            with ui.element("div").classes(side):
                with ui.element("div"):
                    with ui.element("div") as self._side:
                        await self._facts(opened)
                    # News about the images takes back nothing that was chosen here.
                    Preview(self._studio, self._set, mirrored=opened.decoded.mirrored)
                    FeaturesPanel(self._studio, self._set, networks)
                    ExportPanel(self._studio, self._set)
                with ui.element("div").classes("op-set-images"):
                    self._picking = LabelEditor(self._studio, opened, made, self._wanted)
                    await self._picking.build()

    async def _count(self) -> None:
        """Show how many images each class has, corrections included."""
        if self._opened is None or self._classes.is_deleted:
            return
        labels = None
        if self._corrections is not None:
            with contextlib.suppress(OpsinError):  # the page says that above
                labels = await asyncio.to_thread(self._corrections.labels)
        self._classes.clear()
        with self._classes:
            ClassTable(
                self._opened.classes,
                self._opened.counts(labels),
                lambda label, part: self._wanted.address(label=label, part=part),
                here=self._wanted.label,
            )

    async def _facts(self, opened: DecodedDataset) -> None:
        with layout.panel("Classes"):
            self._classes = ui.element("div")
        await self._count()
        with layout.panel("Findings").props("id=findings"):
            if opened.findings is None:
                ui.label("Findings appear here when all images have been checked.").classes(
                    "op-muted"
                )
            else:
                findings_list(opened, lambda kind: self._wanted.address(finding=kind))


def _summary(opened: DecodedDataset) -> str:
    """Return a set in one line, as the terminal says it."""
    _, height, width, channels = opened.decoded.images.shape
    kind = grey_or_colour(channels)
    whole = f"{counted(len(opened), 'image')} {height}×{width} {kind}"
    sums = opened.counts().sum(axis=0)
    parts = [f"{count(sums[code])} {name}" for code, name in PARTS.items() if sums[code] and code]
    classes = counted(len(opened.classes), "class", "classes")
    unreadable = len(opened.decoded.unreadable)
    lost = [f"{count(unreadable)} unreadable"] if unreadable else []
    left_out = left_out_in_words(opened.decoded.left_out)
    lost += [f"left out: {left_out}"] if left_out else []
    return " · ".join([whole, classes, *([", ".join(parts)] if parts else []), *lost])
