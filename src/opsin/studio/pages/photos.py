"""The photographs of a project: a column for each class, and for those without one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from nicegui import background_tasks, events, ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, counted
from opsin.data.image_tree import left_out_in_words
from opsin.studio.context import Studio
from opsin.studio.datasets.album import OUT, UNSORTED, Album
from opsin.studio.datasets.photo_files import Done
from opsin.studio.datasets.sorting import labels_of, set_aside
from opsin.studio.datasets.uploads import SentFile
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import Job
from opsin.studio.pages.page import Page
from opsin.studio.pages.photo_things import Thing, show_thing, things_to_look_at
from opsin.studio.people import allows, visitor
from opsin.studio.projects import Project
from opsin.studio.threads import IMAGES
from opsin.studio.ui import gallery, kit
from opsin.studio.ui.intake import Intake
from opsin.studio.ui.layout import Frame, address, offer_training, page
from opsin.studio.ui.training_cards import cause_in_words
from opsin.studio.words import safe

# Columns, and things to look at, that are shown.
_SHOWN: Final = 24
# Height of a column's photographs, three rows, and from how many on it can be enlarged.
_HEIGHT: Final = 516
_SEVERAL: Final = 12
# Those without a class: title and words.
_OTHERS: Final = {
    UNSORTED: ("Not sorted yet", "These wait for a class. Drag them to one, or press its key."),
    OUT: ("Removed", "These are not used for training. To use one, give it a class."),
}


@Page("/projects/{project}/photos")
async def photos(studio: Studio, project: str, camera: str = "") -> None:
    """Build the page; with ``camera``, the first class begins with it."""
    known = studio.projects.get(project)
    with page(studio, known.name, project=known, here="photos") as frame:
        known = await studio.with_dataset(project)
        content = _Photos(studio, known, frame, camera=bool(camera))
        await ui.context.client.connected()
        await content.start()


class _Column:
    """Photographs in rows: those of a class; or, without one, of the label `OUT` or `UNSORTED`."""

    def __init__(self, page: _Photos, class_: str, label: int = 0) -> None:
        self.class_, self.label, self._page = class_, label, page
        self.photos: list[int] = []  # positions in the album
        self._shown: Sequence[object] = ()
        self.words = class_ or _OTHERS[label][0].lower()
        may = allows("labeller")
        self.gallery = gallery.ImageGallery(
            f"Photographs of {class_}" if class_ else f"Photographs {self.words}",
            (),
            self.image,
            on_choose=(lambda: page.choose(self)) if may else None,
            on_open=partial(page.enlarge, self),
            on_key=partial(page.press, self) if may else None,
            draggable=may,
            captions=False,
            height=_HEIGHT,
        )

    def refresh(self, searched: str) -> int:
        """Show the photographs, or those with some words in their names; return how many."""
        album = self._page.album
        if self.class_ in album.classes:
            self.label = album.classes.index(self.class_)
        self.photos = album.of(self.label).tolist()
        if searched not in self.class_.casefold():
            self.photos = [at for at in self.photos if searched in album.name(at).casefold()]
        ranks = self._page.likeness
        self.photos.sort(key=lambda at: ranks.get(album.contents.names[at], len(ranks)))
        shown: Sequence[object] = self.photos  # decoded images only have positions
        if album.contents.files is not None:
            shown = [album.contents.tokens[at] for at in self.photos]
        if shown != self._shown:
            self._shown = shown
            self.gallery.show(range(len(shown)))
        return len(shown)

    def image(self, at: int) -> gallery.GalleryImage:
        album, photo = self._page.album, self.photos[at]
        title, large = album.name(photo).rpartition("/")[2], album.address(photo, large=True)
        said = self._page.aside.get(album.name(photo), "") if self.label == UNSORTED else ""
        words = f"{self.words}: {said}" if said else self.words
        mark: gallery.Mark = "left out" if said else ""
        alt = f"{title}, {words}"
        return gallery.GalleryImage(album.address(photo), alt, title, mark, large, lines=(words,))


class _Photos:
    """The page of one window, kept up to date with all others."""

    album: Album

    def __init__(self, studio: Studio, project: Project, frame: Frame, *, camera: bool) -> None:
        self._studio, self._id, self._frame, self._camera = studio, project.id, frame, camera
        # What shows a column again, and the card around it.
        self._columns: dict[str, tuple[Callable[[], None], ui.element]] = {}
        self._active: _Column | None = None  # the column with the chosen photographs
        self._things: list[Thing] = []
        self._searched, self._due = "", False
        self.likeness = dict[str, int]()  # each photograph's rank, the likest first
        self.aside = dict[str, str]()  # what was said of photographs instead of a class
        self._checked: object = None  # the listing of files that was checked last
        self._job: Job | None = None
        self._arrived: dict[str, list[SentFile]] = {}
        self._showing, self._adding = asyncio.Lock(), asyncio.Lock()
        with ui.element("div").classes("line"):
            self._summary = kit.note("Looking at the photographs …")
            if allows("labeller"):
                with kit.action("Undo", self._undo, kind="quiet", icon="undo") as self._undoes:
                    self._last = ui.tooltip()
            self._forget = kit.action(
                "", lambda: self._do(studio.albums.forget_gone(self._id)), needs="labeller"
            )
            self._as_before = kit.action("In the usual order", self._order, kind="quiet")
            self._search = ui.input(
                placeholder="Find a class or photograph", on_change=self._show_columns
            )
            self._search.props("clearable debounce=200").props["aria-label"] = "Find"
        self._status = kit.StatusLine()
        with ui.element("div").style("min-height: 48px"):  # what is below does not jump
            self._reading = kit.StatusLine()
            self._fold = kit.question("", self._list_things)
        self._place = ui.element("div").classes("class-columns")
        self._more = kit.note("")
        own = ("1, 2, …", "move to class"), ("Delete", "remove"), ("Ctrl-Z", "undo")
        self._show_keys = kit.key_list([*gallery.GALLERY_KEYS, *own])
        with ui.element("div").classes("choice-bar") as self._bar:
            self._bar.props('role=toolbar aria-label="Chosen photographs"')
            self._chosen = ui.label().classes("text-weight-bold").props('role="status"')
            self._to, self._to_classes = ui.element("div"), tuple[str, ...]()
            self._like = kit.action("Find like this", self._find_like, kind="quiet").props("dense")
            kit.action("Remove", partial(self._move, ""), icon="delete_outline").props("dense")
            kit.icon_action("close", "Choose none", lambda: self.choose(None))
        for hidden in (self._search, self._as_before, self._forget, self._fold, self._bar):
            hidden.set_visibility(False)
        ui.keyboard(self._key, ignore=["input", "select", "textarea"])
        studio.changed.subscribe(self._refresh, "sets", f"set:{self._id}")
        studio.changed.subscribe(self._check_over, "jobs")

    async def start(self) -> None:
        """Show the photographs at once, then with what is known of them."""
        async with self._showing:
            with contextlib.suppress(OpsinError):  # the refresh says it
                await self._show(await self._studio.albums.open(self._id, at_once=True))
        await self._refresh()

    async def _refresh(self) -> None:
        """Show the photographs as they are now; one refresh at a time."""
        self._due = True
        if self._showing.locked():
            return
        async with self._showing:
            try:
                while self._due and not self._place.is_deleted:
                    self._due = False
                    await self._show(await self._studio.albums.open(self._id))
            except NotThere:  # another window removed the project
                ui.navigate.reload()
            except OpsinError as error:
                self._summary.set_text("")
                self._status.fail(error)

    async def _show(self, album: Album) -> None:
        labels = labels_of(self._studio.sets, self._id)
        self.aside = await IMAGES.run(set_aside, labels)
        if self._place.is_deleted:
            return
        self.album = album
        if hasattr(self, "_undoes"):  # a role that changes loads the page again
            last = await IMAGES.run(self._studio.albums.last_change, self._id)
            self._undoes.set_enabled(bool(last))
            self._last.set_text(safe(last) or "Nothing was changed yet")
        self._frame.retitle(album.dataset.title)
        self._search.set_visibility(True)
        self._show_columns()
        photographs = counted(sum(album.counts.values()), "photograph")
        text = f"{photographs} in {counted(len(album.classes), 'class', 'classes')}."
        if not album.dataset.made_here:
            text += " They belong to their source, which is never changed."
        if album.opened and (left_out := left_out_in_words(album.opened.decoded.left_out)):
            text += f" Not used: {left_out}."
        self._summary.set_text(text)
        gone = counted(album.gone, "correction")
        self._forget.set_text(f"Forget {gone} of photographs that are gone")
        self._forget.set_visibility(album.gone > 0)
        few = len(album.of(UNSORTED)) < _SEVERAL
        offer_training(self._frame, self._id, album.why_not_trainable(), main=few)
        self._show_choice()
        if album.contents is not self._checked:
            self._checked = album.contents  # files came or went
            background_tasks.create(self._check(), name=f"photographs {self._id}")
        things = await IMAGES.run(things_to_look_at, self._studio, album)
        if not self._place.is_deleted:
            self._things, words = things, f"{counted(len(things), 'thing')} to look at"
            self._fold.props["label"] = words if things else "Everything was looked at"
            self._fold.set_visibility(bool(things) or bool(self._fold.value))
            self._list_things.refresh()

    @ui.refreshable_method
    def _list_things(self) -> None:
        for thing in self._things[:_SHOWN]:
            show_thing(self._studio.albums, self.album, thing, self._do, self._frame.undo)
        if len(self._things) > _SHOWN:
            kit.note("The others follow as these are settled.")

    def _show_columns(self) -> None:
        """Show all columns; of very many classes only the first, or those searched.

        Columns that stay are not built anew: files may be on their way to them.
        """
        album, words = self.album, str(self._search.value or "").strip().casefold()
        self._searched = words
        found = {
            album.class_of(at)
            for at, name in enumerate(album.contents.names)
            if words and words in name.casefold()
        }
        named = [name for name in album.classes if words in name.casefold() or name in found]
        shown = {name: partial(self._class_column, name) for name in named[:_SHOWN]}
        shown |= {f"\0{label}": partial(self._other_column, label) for label in _OTHERS}
        more = len(named) - _SHOWN
        self._more.set_text(f"{count(more)} more: search for them by name." if more > 0 else "")
        for gone in self._columns.keys() - shown.keys():
            self._columns.pop(gone)[1].delete()
            self.choose(None)
        with self._place:
            for index, (name, build) in enumerate(shown.items()):
                if name not in self._columns:
                    self._columns[name] = build()
                show, card = self._columns[name]
                if self._place.default_slot.children.index(card) != index:
                    card.move(target_index=index)
                show()

    def _other_column(self, label: int) -> tuple[Callable[[], None], ui.element]:
        """A place for more photographs and those that wait for a class; or those removed."""

        def show() -> None:
            number = column.refresh(self._searched)
            card.set_visibility(bool(number) or may_add)
            title.set_text(f"{name} {count(number)}")
            hint.set_visibility(bool(number) and allows("labeller"))
            if sort is not None:
                sort.set_visibility(bool(number))
                kinds = ("primary", "plain") if number >= _SEVERAL else ("plain", "primary")
                sort.classes(add=kinds[0], remove=kinds[1])

        name, words = _OTHERS[label]
        may_add = self.album.can_add and label == UNSORTED
        sort: ui.button | None = None
        with ui.element("section").classes("stack class-column") as card:
            card.props["aria-label"] = name
            if may_add:
                kit.action("Add class", self._add_class, icon="add")
                Intake(
                    "Drop photographs, folders or a zip",
                    folders=True,
                    around=".class-column",
                    batch=self._id,
                    on_all=partial(self._take, ""),
                )
            with ui.element("h2"):
                title = ui.label()
            hint = kit.note(words)
            if may_add:
                sort = kit.link_button("Sort them", address(self._id, "sort"), icon="auto_awesome")
            column = _Column(self, "", label)
        return show, card

    def _class_column(self, class_: str) -> tuple[Callable[[], None], ui.element]:

        def show() -> None:
            many, classes = column.refresh(self._searched), self.album.classes
            number.set_text(count(many))
            more.set_visibility(many > _SEVERAL)
            key.set_text(gallery.key_of_class(classes.index(class_)))
            key.set_visibility(bool(key.text))

        def show_all() -> None:
            wide = "wide" not in card.classes
            card.classes(toggle="wide")
            column.gallery.props["height"] = 0 if wide else _HEIGHT
            column.gallery.update()
            more.set_text("Show fewer" if wide else "Show all")

        with ui.element("section").classes("card stack class-column") as card:
            card.props["aria-label"] = safe(class_)
            files = "event.dataTransfer.types.includes('Files')"  # which are for the intake
            card.on("dragover", js_handler=f"(event) => {files} || event.preventDefault()")
            drop = f"(event) => {files} || (event.preventDefault(), emit())"
            card.on("drop", partial(self._move, class_), js_handler=drop)
            with ui.element("div").classes("line no-wrap"):
                key = ui.label().classes("key")
                with ui.element("h2").classes("col"):
                    title = ui.label(safe(class_, 80)).classes("ellipsis")
                number = ui.label().classes("note")
                if self.album.can_add:
                    kit.rename_in_place(title, lambda: class_, partial(self._rename, class_))
                    self._class_menu(class_)
            if self.album.can_add:
                Intake(
                    f"Photographs of {class_}",
                    batch=f"{self._id} {safe(class_)}",
                    small=True,
                    around=".class-column",
                    opens=self._camera,
                    on_all=partial(self._take, class_),
                )
                self._camera = False  # of the first class only
            column = _Column(self, class_)
            more = kit.action("Show all", show_all, kind="quiet").props("dense")
        return show, card

    def _class_menu(self, class_: str) -> None:
        async def merge() -> None:
            others = [name for name in self.album.classes if name != class_]
            with kit.dialog(f"Merge {safe(class_, 60)} into") as asked:
                kit.note("Its photographs join the class that you choose. Undo takes that back.")
                gallery.class_select(others, asked.submit, "Class")
            if into := await asked:
                await self._do(self._studio.albums.change_class(self.album, class_, into=str(into)))

        with kit.icon_action("more_horiz", f"More about {safe(class_, 60)}"), ui.menu():
            ui.menu_item("Merge into …", merge)
            split = address(self._id, "sort", of=class_)
            ui.menu_item("Split …", partial(ui.navigate.to, split))
            ui.menu_item("Remove", partial(self._rename, class_))

    def choose(self, column: _Column | None) -> None:
        """Photographs of a column were chosen: those of others are not any more."""
        if self._active not in (None, column) and not self._active.gallery.is_deleted:
            self._active.gallery.choose(())
        self._active = column
        self._show_choice()

    def _show_choice(self) -> None:
        number = len(self._active.gallery.chosen) if self._active else 0
        self._bar.set_visibility(bool(number))
        self._chosen.set_text(f"{counted(number, 'photograph')} chosen")
        self._like.set_visibility(number == 1 and self.album.can_add)
        classes = self.album.classes if number else ()
        if classes != self._to_classes:  # a refresh leaves a field alone that is being used
            self._to_classes = classes
            self._to.clear()
            with self._to:
                gallery.class_select(classes, self._move)

    async def _find_like(self) -> None:
        """Show the photographs most like the chosen one first, in each column."""
        if self._active is None or not self._active.gallery.chosen:
            return
        name = self.album.contents.names[self._active.photos[self._active.gallery.chosen[0]]]
        with self._reading.errors():
            self._reading.say("Looking for photographs like it …")
            found = await self._studio.sorting.ask(
                self._id, "like", visitor.get().id, name=name, every=True
            )
            self._order([name for one in found for name in one["names"]])
            self._reading.say("The photographs most like it come first.")

    def _order(self, likest: Sequence[str] = ()) -> None:
        """Show the likest photographs first in each column; without any, all as they were."""
        self._reading.clear()
        self.likeness = {name: rank for rank, name in enumerate(likest)}
        self._as_before.set_visibility(bool(likest))
        self._show_columns()

    def enlarge(self, column: _Column, shown: gallery.ImageGallery, at: int) -> None:
        """Show a photograph large."""

        def relabel(at: int, class_: str | None) -> Awaitable[None]:
            return self._change(column, [at], class_ or "")

        if allows("labeller"):
            gallery.ImageViewer(shown, at, self.album.classes, relabel, undo=self._undo)
        else:
            gallery.ImageViewer(shown, at)

    async def press(self, column: _Column, key: str, at: int) -> None:
        """Give the chosen photographs, or this one, the class of a key."""
        class_ = "" if key == "Delete" else gallery.class_of_key(key, self.album.classes)
        if key == "u":
            await self._undo()
        elif class_ is not None:
            await self._change(column, column.gallery.chosen or [at], class_)

    async def _move(self, class_: str) -> None:
        if self._active is not None:
            await self._change(self._active, self._active.gallery.chosen, class_)

    async def _change(self, column: _Column, places: Sequence[int], class_: str) -> None:
        """Give photographs of a column a class, or remove them (no class)."""
        chosen = [column.photos[at] for at in places]
        if chosen and (class_ != column.class_ if class_ else column.label != OUT):
            await self._do(self._studio.albums.move(self.album, chosen, class_))

    async def _take(self, class_: str, files: Sequence[SentFile]) -> None:
        """Take files in, together with those that come meanwhile."""
        self._arrived.setdefault(class_, []).extend(files)
        if self._adding.locked():
            return
        async with self._adding:
            while self._arrived:
                class_, files = self._arrived.popitem()
                if len(files) > 1 or not class_:
                    self._reading.say("Sorting the photographs in …")
                await self._do(self._studio.albums.add(self._id, files, class_))
        self._reading.clear()

    async def _add_class(self) -> None:
        if name := await kit.ask_text("Add a class", "Name", most=120):
            await self._do(self._studio.albums.add_class(self._id, name))

    async def _rename(self, class_: str, new: str = "") -> None:
        """Rename a class, or remove it (no new name)."""
        if new != class_:
            await self._do(self._studio.albums.change_class(self.album, class_, new))

    async def _undo(self, *, only: float | None = None) -> None:
        """Take back the last change, whosever, or only if it is that of a time."""

        async def undo() -> Done:
            text, _ = await self._studio.albums.undo(self._id, only)
            return Done(f"Undone: {text}" if text else "There is nothing to undo.")

        self._frame.undo.clear()
        await self._do(undo())

    async def _do(self, work: Awaitable[Done]) -> None:
        """Change something, offer to take it back, and tell all windows, this one too."""
        with self._status.errors():
            try:
                text, when = await work
            finally:  # what was refused may have been asked of what is not there any more
                self._studio.changed.emit(f"set:{self._id}")
            if text and when:
                self._frame.undo.offer(text, partial(self._undo, only=when))
            elif text:
                self._status.say(safe(text))

    async def _key(self, event: events.KeyEventArguments) -> None:
        held = event.modifiers.ctrl or event.modifiers.meta
        if event.action.keydown and held and event.key == "z":
            await self._undo()
        elif event.action.keydown and event.key == "?":
            self._show_keys()

    async def _check(self) -> None:
        """Have new photographs read and checked, or take in what was read."""
        with self._reading.errors():
            self._job = await IMAGES.run(self._studio.sets.look, self._id)
            if self._job is not None:
                self._reading.say("Reading new photographs …")
                self._studio.changed.emit("jobs")
            elif await self._studio.albums.read_again(self._id):
                self._studio.changed.emit(f"set:{self._id}")  # all have the old rows

    async def _check_over(self) -> None:
        """Show what the check has found, once it is over."""
        if self._job is None:
            return
        with contextlib.suppress(NotThere):
            self._job = self._studio.jobs.get(self._job.id)
            if not self._job.over:
                return
        job, self._job = self._job, None
        await self._check()
        await self._refresh()
        if job.state == "failed" and not (self._job or self.album.why_not_trainable()):
            self._reading.fail(cause_in_words(self._studio, job.cause or ""))
