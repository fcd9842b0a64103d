"""The photographs of a project: a column for each class, and a tray for those without one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from nicegui import background_tasks, events, ui

from opsin.core.errors import OpsinError, StorageError
from opsin.core.format import count, counted
from opsin.data.image_tree import left_out_in_words
from opsin.studio.context import Studio
from opsin.studio.datasets.album import Album
from opsin.studio.datasets.corrections import OUT
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.errors import DiskFull, NotThere
from opsin.studio.pages.page import Page
from opsin.studio.pages.photo_columns import HEIGHT, Column, name_field
from opsin.studio.pages.photo_things import Thing, show_thing, things_to_look_at
from opsin.studio.people import allows
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.intake import Intake
from opsin.studio.ui.layout import Frame, address, page
from opsin.studio.ui.viewer import ImageViewer, class_of_key, class_select, key_of_class
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.jobs.job import Job
    from opsin.studio.projects import Project

# Columns and things that are shown, and photographs from which on a column can be enlarged.
_SHOWN: Final = 24
_THINGS: Final = 20
_SEVERAL: Final = 12


async def photos(studio: Studio, project: str, camera: str = "") -> None:
    """Build the page; with ``camera``, the first class begins with it."""
    known = studio.projects.get(project)
    with page(
        studio, known.name, project=known, here="photos", guide="how-to/photos.html"
    ) as frame:
        if known.dataset is None:
            kit.empty(
                "The photographs of these classifiers belong to another place. Add them as a "
                "project to see them here.", "See the results", address(known, "results"),
            )  # fmt: skip
            return
        content = Photos(studio, known, frame, camera=bool(camera))
    await ui.context.client.connected()
    await content.start()


PAGE = Page("/projects/{project}/photos", photos)


class Photos:
    """The page of one window, kept up to date with all others."""

    album: Album

    def __init__(self, studio: Studio, project: Project, frame: Frame, *, camera: bool) -> None:
        self.studio, self.project, self.frame, self._camera = studio, project, frame, camera
        self._columns: dict[str, tuple[Column, ui.element]] = {}  # with their cards
        self._tray: Column | None = None
        self._active: Column | None = None  # the column with the chosen photographs
        self._viewer: ImageViewer | None = None
        self._things: list[Thing] = []
        self._searched, self._due = "", False
        self._classes = tuple[str, ...]()  # of the bar
        self._checked: object = None  # the listing of files that was checked last
        self._job: Job | None = None
        self._arrived: dict[str, list[SentFile]] = {}
        self._showing, self._adding = asyncio.Lock(), asyncio.Lock()
        with ui.element("div").classes("line"):
            self._summary = ui.label("Looking at the photographs …").classes("note")
            if allows("labeller"):
                kit.action("Undo", self.undo, kind="quiet", icon="undo")
            search = ui.input(placeholder="Find a class or photograph", on_change=self._find)
            search.props("clearable debounce=200").props["aria-label"] = "Find"
        self._status, self._reading = kit.StatusLine(), kit.StatusLine()
        self._fold = kit.question("", self._list_things)
        self._place = ui.element("div").classes("class-columns")
        self._more = kit.note("")
        kit.question("More about these photographs", self._details)
        with ui.element("div").classes("choice-bar") as self._bar:
            self._bar.props('role=toolbar aria-label="Chosen photographs"')
            self._chosen = ui.label().classes("text-weight-bold").props('role="status"')
            self._to = ui.element("div")
            kit.action("Remove", partial(self.move, ""), icon="delete_outline").props("dense")
            kit.icon_action("close", "Choose none", lambda: self.choose(None))
        for hidden in (self._fold, self._bar):
            hidden.set_visibility(False)
        self._large = ui.element("div")
        ui.keyboard(self._key, ignore=["input", "select", "textarea"])
        studio.changed.subscribe(self._heard)

    async def start(self) -> None:
        """Show the photographs: all at once, then what is known of them."""
        albums = self.studio.albums
        async with self._showing:
            with contextlib.suppress(OpsinError):  # the refresh says it
                await self._show(await albums.open(self.project.id, at_once=True))
        await self.refresh()

    async def refresh(self) -> None:
        """Show the photographs as they are now; one refresh at a time."""
        self._due = True
        if self._showing.locked():
            return
        async with self._showing:
            try:
                while self._due and not self._place.is_deleted:
                    self._due = False
                    await self._show(await self.studio.albums.open(self.project.id))
            except NotThere:
                self._place.clear()
                self._columns, self._tray, self._active = {}, None, None
                with self._place:
                    kit.empty("This project was removed.", "Your projects", "/")
            except OpsinError as error:
                self._status.fail(error)

    async def _show(self, album: Album) -> None:
        if self._place.is_deleted:
            return
        self.album = album
        self._show_columns()
        self._summary.set_text(
            f"{counted(sum(album.counts.values()), 'photograph')} in "
            f"{counted(len(album.classes), 'class', 'classes')}"
        )
        self.frame.actions.clear()
        with self.frame.actions:
            if reason := album.why_not_trainable():
                kit.action("Train", None, kind="primary", off=reason)
                kit.note(reason)
            else:
                target = address(self.project, "train", start="1")
                kit.link_button("Train", target, kind="primary")
        self._show_choice()
        self._removed.refresh()
        if self._viewer:
            self._viewer.refresh()
        if album.contents is not self._checked:
            self._checked = album.contents  # files came or went
            background_tasks.create(self._check(), name=f"photographs {self.project.id}")
        things = await IMAGES.run(things_to_look_at, self.studio, album)
        if not self._place.is_deleted:
            self._things, words = things, f"{counted(len(things), 'thing')} to look at"
            self._fold.props["label"] = words if things else "Everything was looked at"
            self._fold.set_visibility(bool(things) or bool(self._fold.value))
            self._list_things.refresh()

    @ui.refreshable_method
    def _list_things(self) -> None:
        for thing in self._things[:_THINGS]:
            show_thing(self.studio, self.album, thing, self.do)
        if len(self._things) > _THINGS:
            kit.note("The others follow as these are settled.")

    def _show_columns(self) -> None:
        """Show all columns; of very many classes only the first, or those searched.

        Columns that stay are not built anew: files may be on their way to them.
        """
        album, words = self.album, self._searched
        found = {album.class_of(at) for at, name in enumerate(album.contents.names)
                 if words and words in name.casefold()}  # fmt: skip
        named = [name for name in album.classes if words in name.casefold() or name in found]
        shown = named[:_SHOWN]
        more = f"{count(len(named) - len(shown))} more classes: search for them by name."
        self._more.set_text(more if len(named) > _SHOWN else "")
        for gone in self._columns.keys() - set(shown):
            column, card = self._columns.pop(gone)
            card.delete()
            if self._active is column:
                self._active = None
        with self._place:
            for index, name in enumerate(shown):
                if name not in self._columns:
                    self._columns[name] = self._class_column(name)
                column, card = self._columns[name]
                if self._place.default_slot.children.index(card) != index:
                    card.move(target_index=index)
                column.refresh(album, self._searched)
            if album.can_add and self._tray is None:
                self._build_tray()
            if self._tray is not None:
                self._tray.refresh(album, "")

    def _build_tray(self) -> None:
        with ui.element("section").classes("stack class-column").props('aria-label="Add"'):
            kit.action("Add class", self._add_class, icon="add")
            Intake(
                "Drop photographs, folders or a zip", folders=True, around=".class-column",
                batch=self._batch(), on_all=partial(self.take, ""),
            )  # fmt: skip
            with ui.element("h2"):
                title = ui.label()
            kit.note("Photographs without a class wait here. Drag them to one, or press its key.")
            self._tray = Column(
                "", self.choose, self.open, self.press,
                lambda many: title.set_text(f"Not sorted yet {count(many)}"),
            )  # fmt: skip

    def _class_column(self, class_: str) -> tuple[Column, ui.element]:
        """A class: its name, number, photographs, and places for more; and the card around them."""

        def say(many: int) -> None:
            classes = self.album.classes
            number.set_text(count(many))
            more.set_visibility(many > _SEVERAL)
            key.set_text(key_of_class(classes.index(class_)) if class_ in classes else "")
            key.set_visibility(bool(key.text))

        def show_all() -> None:
            wide = "wide" not in card.classes
            card.classes(toggle="wide")
            column.gallery.props["height"] = 0 if wide else HEIGHT
            column.gallery.update()
            more.set_text("Show fewer" if wide else "Show all")

        with ui.element("section").classes("card stack class-column") as card:
            card.props["aria-label"] = safe(class_)
            files = "event.dataTransfer.types.includes('Files')"  # which are for the intake
            card.on("dragover", js_handler=f"(event) => {files} || event.preventDefault()")
            drop = f"(event) => {files} || (event.preventDefault(), emit())"
            card.on("drop", partial(self.move, class_), js_handler=drop)
            with ui.element("div").classes("line no-wrap"):
                key = ui.label().classes("key")
                if self.album.can_add:
                    name_field(class_, self.rename)
                else:
                    with ui.element("h2").classes("col ellipsis"):
                        ui.label(safe(class_, 80))
                number = ui.label().classes("note")
                if self.album.can_add:
                    remove = partial(self.rename, class_)
                    kit.icon_action("delete_outline", f"Remove the class {class_}", remove)
            if self.album.can_add:
                Intake(
                    f"Photographs of {class_}", batch=self._batch(class_), small=True,
                    around=".class-column", opens=self._camera, on_all=partial(self.take, class_),
                )  # fmt: skip
                self._camera = False  # of the first class only
            column = Column(class_, self.choose, self.open, self.press, say)
            more = kit.action("Show all", show_all, kind="quiet").props("dense")
        return column, card

    def _batch(self, class_: str = "") -> str:
        """What an upload is resumed by: the same in every window, and after a reload."""
        text = f"{self.project.id}\0{class_}".encode("utf-8", "surrogatepass")
        return hashlib.blake2s(text, digest_size=8).hexdigest()

    def _find(self, event: events.ValueChangeEventArguments[str | None]) -> None:
        self._searched = str(event.value or "").strip().casefold()
        self._show_columns()

    def _details(self) -> None:
        self._removed()
        kit.heading("Keys", 3)
        kit.facts([
            ("Arrows", "next photograph"), ("Space", "select"), ("Shift", "select a range"),
            ("Ctrl-A, Esc", "select all, none"), ("Enter", "large"), ("1, 2, …", "move to class"),
            ("Delete", "remove"), ("Ctrl-Z", "undo"),
        ])  # fmt: skip

    @ui.refreshable_method
    def _removed(self) -> None:
        """Say what is not used, and offer removed photographs again."""
        album = self.album
        if not album.dataset.made_here:
            kit.note(
                "These photographs belong to their source, which is never changed. You can give "
                "them another class or remove them here."
            )
        if album.opened and (left_out := left_out_in_words(album.opened.decoded.left_out)):
            kit.note(f"Not used: {left_out}.")
        removed = np.flatnonzero(album.labels == OUT).tolist()
        if removed:
            kit.heading(f"Removed photographs ({count(len(removed))})", 3)
            kit.note("They are not used for training; earlier classifiers keep them.")
            gallery = ImageGallery(
                "Removed photographs", removed,
                lambda at: GalleryImage(album.address(at), f"removed, {album.name(at)}"),
                on_choose=bool, captions=False, height=440,
            )  # fmt: skip

            async def restore() -> None:
                chosen = [removed[at] for at in gallery.chosen] or removed
                await self.do(self.studio.albums.restore(album, chosen))

            kit.action("Restore the chosen, or all", restore, needs="labeller")

    # What people do.

    def choose(self, column: Column | None) -> None:
        """Photographs of a column were chosen: those of others are not any more."""
        if self._active is not None and self._active is not column:
            self._active.gallery.choose(())
        self._active = column
        self._show_choice()

    def _show_choice(self) -> None:
        number = len(self._active.chosen) if self._active else 0
        self._bar.set_visibility(bool(number))
        self._chosen.set_text(f"{counted(number, 'photograph')} chosen")
        if number and self._classes != self.album.classes:
            self._classes = self.album.classes
            self._to.clear()
            with self._to:
                class_select(self._classes, self.move)

    def open(self, column: Column, at: int) -> None:
        """Show a photograph large, with keys for its class."""

        def describe(at: int) -> GalleryImage:
            title, class_ = column.title(at), column.class_ or "not sorted yet"
            address = column.address(at, large=True)
            return GalleryImage(address, f"{title}, {class_}", title, lines=(class_,))

        def relabel(at: int, class_: str | None) -> Awaitable[None]:
            return self._change(column, [column.photos[at]], class_ or "")

        may = allows("labeller")
        self._large.clear()
        with self._large:
            self._viewer = ImageViewer(
                lambda: len(column.photos), describe, self.album.classes if may else (),
                relabel if may else None, undo=self.undo if may else None,
            )  # fmt: skip
        self._viewer.open(at)

    async def press(self, column: Column, key: str, at: int) -> None:
        """Give the chosen photographs, or this one, the class of a key."""
        class_ = "" if key == "Delete" else class_of_key(key, self.album.classes)
        if key == "u":
            await self.undo()
        elif class_ is not None:
            await self._change(column, column.chosen or [column.photos[at]], class_)

    async def move(self, class_: str) -> None:
        """Give the chosen photographs a class, or remove them (no class)."""
        if self._active is not None:
            await self._change(self._active, self._active.chosen, class_)

    async def _change(self, column: Column, chosen: Sequence[int], class_: str) -> None:
        album, albums = self.album, self.studio.albums
        if not chosen or class_ == (column.class_ or None):
            return
        if class_:
            await self.do(albums.move(album, chosen, class_))
        else:
            await self.do(albums.remove(album, chosen))

    async def take(self, class_: str, files: Sequence[SentFile]) -> None:
        """Files have arrived: those that come meanwhile are taken in together."""
        self._arrived.setdefault(class_, []).extend(files)
        if self._adding.locked():
            return
        async with self._adding:
            while self._arrived:
                class_, files = self._arrived.popitem()
                if len(files) > 1 or not class_:
                    self._reading.say("Sorting the photographs in …")
                await self.do(self.studio.albums.add(self.project.id, files, class_))
        self._reading.clear()

    async def _add_class(self) -> None:
        async def work(name: str) -> str:
            return f"Added the class {await self.studio.albums.add_class(self.project.id, name)}"

        if name := await kit.ask_text("Add a class", "Name", most=120):
            await self.do(work(name))

    async def rename(self, class_: str, new: str = "") -> None:
        """Rename a class, or remove it (no new name)."""
        await self.do(self.studio.albums.change_class(self.album, class_, new))

    async def undo(self) -> None:
        """Take back the last change."""

        async def work() -> str:
            text = await self.studio.albums.undo(self.project.id)
            self._status.say(f"Undone: {safe(text)}" if text else "There is nothing to undo.")
            return ""

        self.frame.undo.clear()
        await self.do(work())

    async def do(
        self, work: Awaitable[str], undo: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Change something, offer to take it back, and tell all windows, this one too."""
        with self._status.errors():
            try:
                text = await work
            except StorageError:  # without the places of files
                raise DiskFull("The disk is full, or cannot be written", "Free space.") from None
            if text:
                self.frame.undo.offer(text, undo or self.undo)
            self.studio.changed.emit(f"set:{self.project.id}")

    async def _key(self, event: events.KeyEventArguments) -> None:
        held = event.modifiers.ctrl or event.modifiers.meta
        if event.action.keydown and held and event.key == "z":
            await self.undo()

    # What happens by itself.

    async def _check(self) -> None:
        """Have new photographs read and checked, or take in what was read."""
        with self._reading.errors():
            self._job = await IMAGES.run(self.studio.sets.look, self.project.id)
            if self._job is not None:
                self._reading.say("Reading new photographs …")
                self.studio.changed.emit("jobs")
            elif await self.studio.albums.read_again(self.project.id):
                self.studio.changed.emit(f"set:{self.project.id}")  # all have the old rows

    async def _heard(self, topic: str) -> None:
        if topic == f"set:{self.project.id}":
            await self.refresh()
        elif topic == "sets":
            try:
                self.studio.sets.get(self.project.id)
                self.frame.retitle(self.studio.projects.get(self.project.id).name)
            except NotThere:
                await self.refresh()
        elif topic == "jobs" and self._job is not None:
            with contextlib.suppress(NotThere):
                self._job = self.studio.jobs.get(self._job.id)
                if not self._job.over:
                    return
            job, self._job = self._job, None
            await self._check()
            if job.state == "failed" and not (self._job or self.album.why_not_trainable()):
                cause = await asyncio.to_thread(self.studio.sets.in_names, job.cause or "")
                self._reading.fail(kit.without_commands(cause))
