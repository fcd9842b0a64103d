"""The photographs of a project: a column for each class, and a tray for those without one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from nicegui import background_tasks, events, ui

from opsin.core.errors import OpsinError, StorageError
from opsin.core.format import count, counted
from opsin.studio.context import Studio
from opsin.studio.datasets.album import Album
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.errors import DiskFull, NotThere
from opsin.studio.jobs.job import Job
from opsin.studio.pages.page import Page
from opsin.studio.pages.photo_columns import (
    ARCHIVES,
    ClassColumn,
    PhotoColumn,
    batch_of,
    show_class,
)
from opsin.studio.pages.photo_details import details
from opsin.studio.pages.photo_things import ThingsDialog
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage
from opsin.studio.ui.intake import IMAGES as IMAGE_FILES
from opsin.studio.ui.intake import Intake
from opsin.studio.ui.label_editor import ChoiceBar
from opsin.studio.ui.layout import Frame, address, page
from opsin.studio.ui.viewer import ImageViewer, class_of_key
from opsin.studio.words import safe

# Columns that are shown at first, and from which number on a class is searched.
_SHOWN: Final = 24
_MANY: Final = 12


async def photos(studio: Studio, project: str, camera: str = "") -> None:
    """Build the page; with ``camera``, the first class begins with it."""
    known = studio.projects.get(project)
    with page(
        studio, known.name, project=known, here="photos", guide="how-to/photos.html"
    ) as frame:
        if known.dataset is None:
            kit.empty(
                "The photographs of these classifiers belong to another place. Add them as a "
                "project to see them here.",
                "See the results",
                address(known, "results"),
            )
            return
        content = _Photos(studio, known, frame)
    await ui.context.client.connected()
    await content.show(camera=bool(camera))


PAGE = Page("/projects/{project}/photos", photos)


def _editable(album: Album) -> bool:
    """Whether photographs can be given another class: not before they were read."""
    return allows("labeller") and (album.can_add or album.opened is not None)


class _Photos:
    """The page of one window, kept up to date with all others."""

    def __init__(self, studio: Studio, project: Project, frame: Frame) -> None:
        self._studio, self._project, self._frame = studio, project, frame
        self._id, self._albums = project.id, studio.albums
        self._album: Album | None = None
        self._columns: dict[str, ClassColumn] = {}
        self._tray: PhotoColumn | None = None
        self.whole: PhotoColumn | None = None
        self._active: PhotoColumn | None = None  # the column with the chosen photographs
        self._most, self._words, self.camera = _SHOWN, "", ""
        self._job: Job | None = None
        self._arrived: dict[str, list[SentFile]] = {}
        self._adding = self._refreshing = self._again = self.editable = False
        self._own_changes = 0
        self._show_details: Callable[[], object] = bool
        with ui.element("div").classes("line"):
            self._summary = ui.label("Looking at the photographs …").classes("note")
            self._things = ThingsDialog(studio, self._do)
            self._undo_button = kit.action("Undo", self.undo, kind="quiet", icon="undo")
            self._undo_button.set_visibility(False)
            self._search = ui.input(placeholder="Find a class").props("clearable debounce=200")
            self._search.props["aria-label"] = "Find a class"
            self._search.on_value_change(self._find)
            self._search.set_visibility(False)
        self._status = kit.StatusLine()
        self._reading = kit.StatusLine()
        self._place = ui.element("div").classes("class-columns")
        self._more = kit.action("Show more classes", self._show_more)
        self._more.set_visibility(False)
        kit.question("More about these photographs", self._details)
        self._bar = ChoiceBar(self.move_chosen, lambda: self.move_chosen(""), self._choose_none)
        self._large = ui.element("div")
        ui.keyboard(self._key, ignore=["input", "select", "textarea"])
        studio.changed.subscribe(self._heard)

    async def show(self, *, camera: bool = False) -> None:
        """Show the photographs, the first at once, and have them read and checked if due."""
        with contextlib.suppress(OpsinError):  # the next one says it
            if first := await self._albums.glimpse(self._id):
                self._build(first)
            album = await self._albums.open(self._id, at_once=True)
            self.camera = album.classes[0] if camera and album.classes else ""
            await self._show(album)
        await self._refresh()
        await self._check()

    # What is shown.

    async def _refresh(self) -> None:
        """Show the photographs as they are now; one refresh at a time."""
        if self._refreshing:
            self._again = True
            return
        self._refreshing = True
        try:
            self._again = True
            while self._again and not self._place.is_deleted:
                self._again = False
                album = await self._albums.open(self._id)
                with self._place:  # the button that was pressed may be gone by now
                    await self._show(album)
        except NotThere:
            self._place.clear()
            with self._place:
                kit.empty("This project was removed.", "Your projects", "/")
        except OpsinError as error:
            self._status.fail(error)
        finally:
            self._refreshing = False

    async def _show(self, album: Album) -> None:
        change = await self._albums.last_change(self._id)
        if self._place.is_deleted:
            return
        before, self._album = self._album, album
        self._undo_button.set_visibility(change is not None and allows("labeller"))
        if self._columns and self.editable != _editable(album):
            self._place.clear()
            self._columns, self._tray, self._active = {}, None, None
        if before is None or before.classes != album.classes or not self._columns:
            self._build(album)
        for column in filter(None, (*self._columns.values(), self.whole, self._tray)):
            column.refresh(album)
        if self._tray is not None:
            self._tray_title.set_text(f"Not sorted yet {count(len(album.contents.tray))}")
        numbers = album.counts
        self._summary.set_text(
            f"{counted(sum(numbers.values()), 'photograph')} in "
            f"{counted(len(numbers), 'class', 'classes')}"
        )
        self._frame.actions.clear()
        with self._frame.actions:
            if reason := album.why_not_trainable():
                kit.action("Train", lambda: None, kind="primary", off=reason)
                kit.note(reason)
            else:
                target = address(self._project, "train", start="1")
                kit.link_button("Train", target, kind="primary")
        self._show_choice()
        self._show_details()
        await self._things.show(album)

    def _build(self, album: Album) -> None:
        """Build what is missing; of very many classes only the first, or those searched.

        Columns that stay are not touched: files may be on their way to them.
        """
        self.editable = _editable(album)
        words = self._words.casefold()
        named = [(at, name) for at, name in enumerate(album.classes) if words in name.casefold()]
        self._search.set_visibility(len(album.classes) > _MANY)
        self._more.set_visibility(len(named) > self._most)
        self._more.set_text(f"Show more of {counted(len(named), 'class', 'classes')}")
        shown = named[: self._most]
        for gone in self._columns.keys() - {name for _, name in shown}:
            self._columns.pop(gone).card.delete()
        with self._place:
            for index, (at, name) in enumerate(shown):
                if name not in self._columns:
                    self._columns[name] = ClassColumn(
                        self, album, name, at, on_rename=self._rename,
                        on_remove=self._rename, on_all=self._show_all,
                    )  # fmt: skip
                self._columns[name].place(at)
                if self._place.default_slot.children.index(self._columns[name].card) != index:
                    self._columns[name].card.move(target_index=index)
            if album.can_add and self._tray is None:
                self._build_tray(album)
            elif not album.can_add and not album.classes:
                kit.empty("The photographs appear here as soon as they are read.")

    def _build_tray(self, album: Album) -> None:
        with ui.element("section").classes("stack class-column").props('aria-label="Add"'):
            kit.action("Add class", self._add_class, icon="add")
            Intake(
                "Drop photos, folders or a zip",
                accept=f"{IMAGE_FILES},{ARCHIVES}",
                folders=True,
                batch=batch_of(self._id),
                around=".class-column",
                on_all=lambda files: self.take("", files),
            )
            with ui.element("h2"):
                self._tray_title = ui.label("Not sorted yet")
            kit.note("Photos without a class wait here. Drag them to one, or press its key.")
            self._tray = PhotoColumn(self, album)

    def _find(self) -> None:
        self._words = str(self._search.value or "").strip()
        if self._album:
            self._build(self._album)

    def _show_more(self) -> None:
        self._most += _SHOWN
        if self._album:
            self._build(self._album)

    async def _show_all(self, class_: str) -> None:
        if self._album:
            await show_class(self, self._album, class_)

    async def _details(self) -> None:
        album = self._album or await self._albums.open(self._id)
        self._show_details = details(self._studio, lambda: self._album or album, self._do)

    # What people do.

    def choose(self, column: PhotoColumn) -> None:
        """Photographs of a column were chosen: those of others are not any more."""
        if self._active is not None and self._active is not column and self._active.chosen:
            self._active.gallery.choose(())
        self._active = column
        self._show_choice()

    def _show_choice(self) -> None:
        chosen = self._active.chosen if self._active else ()
        self._bar.show(len(chosen), self._album.classes if self._album else ())

    async def open(self, column: PhotoColumn, at: int) -> None:
        """Show a photograph large, with keys for its class."""
        if self._album is None:
            return

        def describe(at: int) -> GalleryImage:
            title, class_ = column.title(at), column.class_ or "not sorted yet"
            address = column.address(at, large=True)
            return GalleryImage(address, f"{title}, {class_}", title, lines=(class_,))

        def relabel(at: int, class_: str | None) -> Awaitable[None]:
            return self._change(column, [column.photos[at]], class_ or "")

        fixed = not self.editable and bool(column.class_)
        self._large.clear()
        with self._large:
            viewer = ImageViewer(
                lambda: len(column.photos), describe, () if fixed else self._album.classes,
                None if fixed else relabel, undo=None if fixed else self.undo,
            )  # fmt: skip
        viewer.open(at)

    async def press(self, column: PhotoColumn, key: str, at: int) -> None:
        """Give the chosen photographs, or this one, the class of a key."""
        chosen = column.chosen or [column.photos[at]]
        class_ = class_of_key(key, self._album.classes if self._album else ())
        if key == "Delete":
            await self._change(column, chosen, "")
        elif key == "u":
            await self.undo()
        elif class_ is not None:
            await self._change(column, chosen, class_)

    async def move_chosen(self, class_: str) -> None:
        """Give the chosen photographs a class, or remove them (no class)."""
        if self._active is not None:
            await self._change(self._active, self._active.chosen, class_)

    def _choose_none(self) -> None:
        if self._active is not None:
            self._active.gallery.choose(())
        self._show_choice()

    async def _change(self, column: PhotoColumn, chosen: Sequence[int], class_: str) -> None:
        """Give photographs a class, or remove them (no class)."""
        album = self._album
        if album is None or not chosen or class_ == (column.class_ or None):
            return
        if not column.class_:
            work = self._albums.sort(album, chosen, class_)
        elif class_:
            work = self._albums.move(album, chosen, class_)
        else:
            work = self._albums.remove(album, chosen)
        await self._do(work, files=not column.class_)

    async def take(self, class_: str, files: Sequence[SentFile]) -> None:
        """Files have arrived: those that come meanwhile are taken in together."""
        self._arrived.setdefault(class_, []).extend(files)
        if self._adding:
            return
        self._adding = True
        try:
            while self._arrived:
                class_, files = self._arrived.popitem()
                if len(files) > 1 or not class_:
                    self._reading.say("Sorting the photographs in …")
                await self._do(self._albums.add(self._id, files, class_))
        finally:
            self._adding = False
            self._reading.clear()
        await self._check()

    async def _add_class(self) -> None:
        if name := await kit.ask_text("Add a class", "Name", most=120):
            await self._do(self._albums.add_class(self._id, name), "Added the class {}")

    async def _rename(self, class_: str, new: str = "") -> None:
        """Rename a class, or remove it (no new name)."""
        if self._album:
            await self._do(self._albums.change_class(self._album, class_, new), files=True)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Show errors without the places of files."""
        with self._status.errors():
            try:
                yield
            except StorageError:
                raise DiskFull("The disk is full, or cannot be written", "Free space.") from None

    async def undo(self) -> None:
        """Take back the last change."""
        with self._errors():
            text = await self._albums.undo(self._id)
            self._frame.undo.clear()
            if text:
                self._status.say(f"Undone: {safe(text)}")
            await self._changed()
        await self._check()

    async def _do(
        self, work: Awaitable[str], words: str = "{}", *, files: bool = False,
        undo: Callable[[], Awaitable[object]] | None = None,
    ) -> None:  # fmt: skip
        """Change something, show it, offer to take it back, and tell all windows."""
        with self._errors():
            text = await work
            if text and not self._place.is_deleted:
                self._frame.undo.offer(words.replace("{}", text), undo or self.undo)
            await self._changed()
        if files:
            await self._check()

    async def _changed(self) -> None:
        await self._refresh()
        self._own_changes += 1  # of which it hears, too
        self._studio.changed.emit(f"set:{self._id}")
        self._studio.changed.emit("sets")

    async def _key(self, event: events.KeyEventArguments) -> None:
        held = event.modifiers.ctrl or event.modifiers.meta
        if event.action.keydown and held and event.key == "z":
            await self.undo()

    # What happens by itself.

    async def _check(self) -> None:
        """Have new photographs read and checked; the page hears when that is over."""
        try:
            self._job = await IMAGES.run(self._studio.sets.look, self._id)
        except OpsinError as error:
            self._reading.fail(error)
            return
        if self._job is not None:
            self._reading.say("Reading new photographs …")
            self._studio.changed.emit("jobs")
        else:
            self._reading.clear()
            await self._read_again()

    async def _read_again(self) -> None:
        """Take in what was read, if anything is new."""
        with self._errors():
            if await self._albums.read_again(self._id):
                await self._changed()  # other windows have the old rows

    async def _heard(self, topic: str) -> None:
        if self._place.is_deleted:
            return
        if topic == f"set:{self._id}":
            if self._own_changes:
                self._own_changes -= 1
            else:
                await self._refresh()
        elif topic == "sets":
            try:
                self._studio.sets.get(self._id)
                self._frame.retitle(self._studio.projects.get(self._id).name)
            except NotThere:
                await self._refresh()
        elif topic == "jobs" and self._job is not None:
            try:
                self._job = self._studio.jobs.get(self._job.id)
            except NotThere:
                self._job = None
            if self._job is None or self._job.over:
                await self._job_over(self._job)

    async def _job_over(self, job: Job | None) -> None:
        self._job = None
        self._reading.clear()
        if job is not None and job.state == "failed":
            cause = await asyncio.to_thread(self._studio.sets.in_names, job.cause or "")
            if self._album and not self._album.why_not_trainable():
                self._reading.fail(kit.without_commands(cause))
        await self._read_again()
        if job is None or job.state != "failed":
            background_tasks.create(self._check(), name=f"photographs {self._id}")
