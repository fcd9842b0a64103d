"""Ways to add a set: upload, folder, name, empty."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import file_size
from opsin.studio import words
from opsin.studio.datasets.upload_import import SentFile, common_name
from opsin.studio.datasets.uploads import MOST_BYTES
from opsin.studio.parts import layout
from opsin.studio.parts.browsing import Browsing, browse
from opsin.studio.parts.intake import IMAGES, Intake
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.threads import UPLOADS

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset
    from opsin.studio.state import Studio

#: A word about each source that is known by its name.
NAMED: Final = {
    "fashion-mnist": "70,000 images of clothes, 28×28 grey, 10 classes",
    "mnist": "70,000 written digits, 28×28 grey, 10 classes",
    "kmnist": "70,000 characters of old Japanese, 28×28 grey, 10 classes",
    "cifar10": "60,000 photos of animals and vehicles, 32×32 colour, 10 classes",
    "cifar100": "60,000 photos of 100 kinds of things, 32×32 colour",
    "digits": "1,797 scanned digits, 8×8 grey: small, and always there",
}
# What an upload for a set is resumed by: the same in every window, and after a reload.
_BATCH: Final = "00000000000da7a5"
_ARCHIVES: Final = ".zip,.tar,.tgz,.gz,.xz,.bz2,.npz,.parquet"


async def by_upload(studio: Studio) -> None:
    """Build the upload: one archive, or images in folders."""
    await _Upload(studio).build()


class _Upload:
    """Files that arrive, and what they become once all are there.

    What is sent at once is an upload of its own: one that was refused keeps no other from becoming
    a set, and waits for another try, with what it lacked, in a place of its own.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        #: The place of each upload that waits, by the keys of its files.
        self._waiting: dict[frozenset[str], ui.element] = {}

    async def build(self) -> None:
        """Show where files are taken, and what they are to become."""
        with ui.element("p").classes("op-muted"):
            ui.label(
                "Each folder is a class: send a zip with a folder for each, or choose a folder "
                "that holds them. If the upload stops, choose the same files to continue."
            )
        sets = await asyncio.to_thread(self._studio.sets.all)
        made = {each.id: words.safe(each.title, 80) for each in sets if each.made_here}
        with ui.element("div").classes("op-fields"):
            self._title = ui.input("Dataset name").props("dense outlined maxlength=200")
            self._loose = ui.input("Class of images without a folder").props("dense outlined")
            self._into = ui.select({"": "A new dataset", **made}, value="", label="Add to").props(
                "dense outlined"
            )
            self._into.set_visibility(bool(made))
        most = file_size(MOST_BYTES)
        self._intake = Intake(
            f"Images or one archive, {most} at most",
            accept=f"{IMAGES},{_ARCHIVES}",
            camera=False,
            folders=True,
            batch=_BATCH,
            on_all=self._finish,
        )
        self._state = StatusLine()
        self._refused = ui.element("div")

    async def _finish(self, files: list[SentFile]) -> None:
        sets, uploads = self._studio.sets, self._studio.uploads
        self._done_with(files)
        self._state.say("Unpacking, and sorting into classes …")
        self._intake.enable(False)
        try:
            chosen = self._into.value
            title = self._title.value or common_name(files) or self._loose.value or ""
            loose = self._loose.value or ""

            def finish() -> LibraryDataset:
                into = sets.images_path(chosen) if chosen else sets.new_place(title)
                source = uploads.finish(files, into, loose=loose)
                return sets.get(chosen) if chosen else sets.add_upload(source, title=title)

            added = await UPLOADS.run(finish)
        except OpsinError as error:
            await self._failed(error, files)
            return
        finally:
            self._intake.enable()
        await _added(self._studio, added, self._state)

    async def _failed(self, error: OpsinError, files: list[SentFile]) -> None:
        # An archive that was refused is gone; images wait for a class to be named.
        offset = self._studio.uploads.offset
        left = await UPLOADS.run(lambda: [each for each in files if offset(each["key"])])
        if self._state.element.is_deleted:
            return
        self._state.clear()
        if not left:
            self._state.fail(error)
            return
        with self._refused, ui.element("div") as place:
            layout.error_line(error)
            with ui.element("div").classes("op-actions"):
                layout.action("Try again", lambda: self._finish(left), primary=True)
                layout.action("Remove these files", lambda: self._forget(left))
        self._waiting[frozenset(each["key"] for each in left)] = place

    def _done_with(self, files: list[SentFile]) -> None:
        """Take the errors of uploads away whose files are all among these."""
        keys = {each["key"] for each in files}
        for waiting in [each for each in self._waiting if each <= keys]:
            self._waiting.pop(waiting).delete()

    async def _forget(self, files: list[SentFile]) -> None:
        self._done_with(files)

        def drop() -> None:
            for file in files:
                self._studio.uploads.drop(file["key"])

        await UPLOADS.run(drop)


async def by_folder(studio: Studio, identity: str, page: int) -> None:
    """Build the look into folders of this machine, below the roots."""
    state = StatusLine()
    browsing = Browsing(
        address="/data?add=folder#add",
        intro="Choose the folder that has a subfolder for each class. Nothing in it is changed.",
        this="Add this folder",
        file="Add",
        choose=lambda place: _add(studio, state, place),
    )
    await browse(studio.folders, browsing, identity, page)


def by_name(studio: Studio) -> None:
    """Build the choice among the sources that are known by name."""
    options = {name: f"{name}: {words_about}" for name, words_about in NAMED.items()}
    with ui.element("p").classes("op-muted"):
        ui.label("Downloaded once if this machine does not have it yet, and verified.")
    choice = ui.select(options, value=next(iter(options)), label="Dataset").props("outlined")
    choice.classes("op-named")
    state = StatusLine()

    async def add() -> None:
        await _add(studio, state, lambda: str(choice.value))

    with ui.element("div").classes("op-actions"):
        layout.action("Add", add, primary=True)


def empty(studio: Studio) -> None:
    """Build the form for a set of classes without images."""
    with ui.element("p").classes("op-muted"):
        ui.label(
            "Name the classes. On the dataset's page you can take images of each class with the "
            "camera; about 50 of each are a good start."
        )
    with ui.element("div").classes("op-fields"):
        title = ui.input("Dataset name").props("dense outlined maxlength=200")
        classes = ui.input("Classes, separated by commas").props("dense outlined")
    state = StatusLine()

    async def make() -> None:
        names = [part for part in re.split(r"[,;\n]", classes.value or "") if part.strip()]
        with state.errors():
            made = await asyncio.to_thread(studio.sets.new_empty, names, title=title.value or "")
            studio.changed.emit("sets")
            ui.navigate.to(f"/data/{made.id}")

    with ui.element("div").classes("op-actions"):
        layout.action("Create dataset", make, primary=True)


async def _add(studio: Studio, state: StatusLine, source: Callable[[], Any]) -> None:
    """Add a source that is looked up now, and look at it."""
    state.say("Listing its images …")
    try:
        added = await asyncio.to_thread(lambda: studio.sets.add_source(str(source())))
    except OpsinError as error:
        state.fail(error)
        return
    await _added(studio, added, state)


async def _added(studio: Studio, added: LibraryDataset, state: StatusLine) -> None:
    """Say that a set was added, and have it looked at."""
    studio.changed.emit("sets")
    fault: OpsinError | None = None
    try:
        await asyncio.to_thread(studio.sets.look, added.id, again=True)
    except OpsinError as error:
        fault = error
    studio.changed.emit("jobs")
    studio.changed.emit(f"set:{added.id}")
    if state.element.is_deleted:
        return
    state.clear()
    with state.element:
        with ui.element("div").classes("op-row"):
            ui.label(f"Added: {words.safe(added.title, 80)}.")
            ui.link("Open", f"/data/{added.id}")
        if fault:
            layout.error_line(fault)
