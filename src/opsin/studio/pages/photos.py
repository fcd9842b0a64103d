"""The photographs of a project: a column for each class, and a tray for those without one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from nicegui import background_tasks, events, ui

from opsin.core.errors import OpsinError, StorageError
from opsin.core.format import count, counted
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.errors import DiskFull, NotThere
from opsin.studio.jobs.job import Job
from opsin.studio.pages import photo_details
from opsin.studio.pages.album import Album, albums_of
from opsin.studio.pages.page import Page
from opsin.studio.pages.photo_columns import ARCHIVES, ClassColumn, PhotoColumn, batch_of
from opsin.studio.pages.photo_things import ThingsDialog
from opsin.studio.people import allows
from opsin.studio.projects import Project
from opsin.studio.state import Studio
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit
from opsin.studio.ui.intake import IMAGES as IMAGE_FILES
from opsin.studio.ui.intake import Intake
from opsin.studio.ui.label_editor import ChoiceBar, class_of_key, viewer_actions
from opsin.studio.ui.layout import Frame, address, page
from opsin.studio.ui.viewer import ImageViewer, ViewedImage
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


class _Photos:
    """The page of one window, kept up to date with all others."""

    def __init__(self, studio: Studio, project: Project, frame: Frame) -> None:
        self._studio, self._project, self._frame = studio, project, frame
        self._albums = albums_of(studio)
        self._album: Album | None = None
        self._columns: dict[str, ClassColumn] = {}
        self._tray: PhotoColumn | None = None
        self._whole: PhotoColumn | None = None  # all photographs of a class, in their window
        self._active: PhotoColumn | None = None  # the column with the chosen photographs
        self._most, self._words, self.camera = _SHOWN, "", ""
        self._job: Job | None = None
        self._arrived: dict[str, list[SentFile]] = {}
        self._adding = self._refreshing = self._again = self._built_editable = False
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
        self._bar = ChoiceBar(self._move_chosen, self._remove_chosen, self._choose_none)
        self._viewer: ImageViewer | None = None
        ui.keyboard(self._key, ignore=["input", "select", "textarea"])
        studio.changed.subscribe(self._heard)

    @property
    def _id(self) -> str:
        return self._project.id

    @property
    def editable(self) -> bool:
        """Whether photographs can be given another class: not before they were read."""
        album = self._album
        is_open = album is not None and (album.can_add or album.opened is not None)
        return is_open and allows("labeller")

    async def show(self, *, camera: bool = False) -> None:
        """Show the photographs, and have them read and checked where that is due."""
        with contextlib.suppress(OpsinError):  # the next one says it
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
        before, self._album = self._album, album
        change = await IMAGES.run(self._albums.last_change, self._id)
        if self._place.is_deleted:
            return
        self._undo_button.set_visibility(change is not None and allows("labeller"))
        editable = allows("labeller") and (album.can_add or album.opened is not None)
        if before is None or self._built_editable != editable:
            self._clear()
        if before is None or before.classes != album.classes or not self._columns:
            self._build(album)
        for column in self._columns.values():
            column.refresh(album)
        if self._whole is not None:
            self._whole.refresh(album)
        if self._tray is not None:
            self._tray.refresh(album)
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
        await self._things.show(album)

    def _clear(self) -> None:
        self._place.clear()
        self._columns, self._tray, self._active = {}, None, None
        self._built_editable = self.editable

    def _build(self, album: Album) -> None:
        """Build what is missing; of very many classes only the first, or those searched.

        Columns that stay are not touched: files may be on their way to them.
        """
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
                        on_remove=self._remove_class, on_all=self._show_all,
                    )  # fmt: skip
                self._columns[name].place(at)
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

    async def _find(self) -> None:
        self._words = str(self._search.value or "").strip()
        if self._album:
            self._build(self._album)

    def _show_more(self) -> None:
        self._most += _SHOWN
        if self._album:
            self._build(self._album)

    async def _show_all(self, class_: str) -> None:
        if self._album:
            await photo_details.show_class(self, self._album, class_, self._choose_column)

    async def _details(self) -> None:
        album = self._album or await self._albums.open(self._id)
        photo_details.details(self._studio, album, self._do)

    # What people do.

    def choose(self, column: PhotoColumn) -> None:
        """Photographs of a column were chosen: those of others are not any more."""
        if self._active is not None and self._active is not column and column.chosen:
            self._active.gallery.choose(())
        self._choose_column(column if column.chosen else None)

    def follow(self, column: PhotoColumn | None) -> None:
        """Keep another column up to date as well, or none."""
        self._whole = column

    def _choose_column(self, column: PhotoColumn | None) -> None:
        self._active = column
        self._show_choice()

    def _show_choice(self) -> None:
        album, column = self._album, self._active
        number = len(column.chosen) if column and not column.gallery.is_deleted else 0
        self._bar.show(number, album.classes if album else ())

    async def open(self, column: PhotoColumn, at: int) -> None:
        """Show a photograph large, with keys for its class."""
        album = self._album
        if album is None:
            return

        def describe(at: int) -> ViewedImage:
            title = column.title(at)
            class_ = column.class_ or "not sorted yet"
            return ViewedImage(
                column.address(at, large=True), f"{title}, {class_}", title, (class_,)
            )

        async def undo(_: int) -> None:
            await self.undo()

        actions = []
        if self.editable or not column.class_:
            actions = viewer_actions(
                album.classes,
                lambda at, class_: self._change(column, [column.photos[at]], class_),
                lambda at: self._change(column, [column.photos[at]], ""),
                undo,
            )
        with self._place:
            self._viewer = ImageViewer(lambda: len(column.photos), describe, actions)
        await self._viewer.open(at)

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

    async def drop(self, class_: str) -> None:
        """The chosen photographs were dropped on a class."""
        await self._move_chosen(class_)

    async def _move_chosen(self, class_: str) -> None:
        if self._active is not None:
            await self._change(self._active, self._active.chosen, class_)

    async def _remove_chosen(self) -> None:
        await self._move_chosen("")

    def _choose_none(self) -> None:
        if self._active is not None:
            self._active.gallery.choose(())
        self._choose_column(None)

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
                album = self._album or await self._albums.open(self._id)
                await self._do(self._albums.add(album, files, class_), files=False)
        finally:
            self._adding = False
            self._reading.clear()
        await self._check()

    async def _add_class(self) -> None:
        name = await kit.ask_text("Add a class", "Name", most=120)
        if name and self._album:
            await self._do(self._albums.add_class(self._album, name), "Added the class {}")

    async def _rename(self, class_: str, new: str) -> None:
        if self._album:
            await self._do(self._albums.change_class(self._album, class_, new), files=True)

    async def _remove_class(self, class_: str) -> None:
        if self._album:
            await self._do(self._albums.change_class(self._album, class_), files=True)

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
            self._frame.undo.close()
            if text:
                self._status.say(f"Undone: {safe(text)}")
            self._studio.changed.emit(f"set:{self._id}")
            await self._refresh()
        await self._check()

    async def _do(
        self, work: Awaitable[str], words: str = "{}", *, files: bool = False,
        undo: Callable[[], Awaitable[object]] | None = None,
    ) -> None:  # fmt: skip
        """Change something, show it, offer to take it back, and tell all windows."""
        with self._errors():
            text = await work
            if text:
                self._frame.undo.offer(words.format(text), undo or self.undo)
            await self._refresh()
            self._studio.changed.emit(f"set:{self._id}")
            self._studio.changed.emit("sets")
        if files:
            await self._check()

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
        if await self._albums.read_again(self._id):
            await self._refresh()
            self._studio.changed.emit(f"set:{self._id}")  # other windows have the old rows

    async def _heard(self, topic: str) -> None:
        if self._place.is_deleted:
            return
        if topic == f"set:{self._id}":
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
                self._reading.fail(cause)
            await self._read_again()
            return
        await self._read_again()
        background_tasks.create(self._check(), name=f"photographs {self._id}")
