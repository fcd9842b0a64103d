"""The columns of a project's photographs: one for each class, and the tray."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

from nicegui import events, ui

from opsin.core.format import count
from opsin.studio.datasets.album import Album
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.intake import IMAGES, Intake
from opsin.studio.ui.label_editor import DRAG, DROP
from opsin.studio.ui.viewer import key_of_class
from opsin.studio.words import safe

#: Archives that are unpacked into class folders.
ARCHIVES: Final = ".zip,.tar,.tgz,.gz,.xz,.bz2"
# Height of a column's photographs, three rows, and photographs from which on all can be shown.
_HEIGHT: Final = 516
_SEVERAL: Final = 12


class _Page(Protocol):
    editable: bool  # whether photographs can be given another class
    camera: str  # the class whose camera is opened at once
    whole: PhotoColumn | None  # all photographs of a class, in a window of their own

    def choose(self, column: PhotoColumn) -> None: ...

    async def open(self, column: PhotoColumn, at: int) -> None: ...

    async def press(self, column: PhotoColumn, key: str, at: int) -> None: ...

    async def move_chosen(self, class_: str) -> None: ...

    async def take(self, class_: str, files: Sequence[SentFile]) -> None: ...


class PhotoColumn:
    """Photographs in rows: of a class, or of the tray (no class).

    Args:
        page: Does what is asked of the photographs.
        album: The photographs.
        class_: The class.
        height: Height beyond which it scrolls; 0 for none.
        label: What they are, for those who cannot see them.
    """

    def __init__(
        self, page: _Page, album: Album, class_: str = "", *, height: int = _HEIGHT, label: str = ""
    ) -> None:
        self.class_, self._album, self._words = class_, album, ""
        self.photos = self._all()
        editable = page.editable or not class_
        self.gallery = ImageGallery(
            label or (f"Photographs of {class_}" if class_ else "Photographs not sorted yet"),
            range(len(self.photos)),
            self._image,
            on_choose=(lambda: page.choose(self)) if editable else None,
            on_open=lambda at: page.open(self, at),
            on_key=(lambda key, at: page.press(self, key, at)) if editable else None,
            draggable=editable,
            captions=False,
            height=height,
        )

    @property
    def chosen(self) -> list[int]:
        """Positions of the chosen photographs in the album, or in the tray."""
        if self.gallery.is_deleted:
            return []
        return [self.photos[at] for at in self.gallery.chosen if at < len(self.photos)]

    def refresh(self, album: Album) -> None:
        """Show the photographs of an album."""
        before, photos = self._album, self.photos
        self._album = album
        self.photos = self._all()
        now = _tokens(album, self.photos, self.class_)
        if now != _tokens(before, photos, self.class_) and not self.gallery.is_deleted:
            self.gallery.show(range(len(self.photos)))

    def search(self, words: str) -> None:
        """Show only photographs whose names have some words in them; none is chosen."""
        self._words = words.casefold()
        self.photos = self._all()
        self.gallery.show(range(len(self.photos)))

    def title(self, at: int) -> str:
        """A photograph's file name, by its place in the column."""
        photo = self.photos[at]
        name = self._album.name(photo) if self.class_ else self._album.contents.tray[photo].name
        return name.rpartition("/")[2]

    def address(self, at: int, *, large: bool = False) -> str:
        """A photograph's address, by its place in the column."""
        return self._album.address(self.photos[at], large=large, in_tray=not self.class_)

    def _all(self) -> list[int]:
        album = self._album
        if not self.class_:
            return list(range(len(album.contents.tray)))
        if self.class_ not in album.classes:
            return []
        photos: list[int] = album.of(album.classes.index(self.class_)).tolist()
        if self._words:
            photos = [at for at in photos if self._words in album.name(at).casefold()]
        return photos

    def _image(self, at: int) -> GalleryImage:
        return GalleryImage(self.address(at), f"{self.class_ or 'not sorted'}, {self.title(at)}")


class ClassColumn(PhotoColumn):
    """A class: its name, number, photographs, and places for more of them.

    Args:
        page: Does what is asked of the photographs.
        album: The photographs.
        class_: The class.
        at: Its place, which decides its key.
        on_rename: Receives the class and its new name.
        on_remove: Removes the class.
        on_all: Shows all its photographs.
    """

    def __init__(
        self,
        page: _Page,
        album: Album,
        class_: str,
        at: int,
        *,
        on_rename: Callable[[str, str], Awaitable[None]],
        on_remove: Callable[[str], Awaitable[None]],
        on_all: Callable[[str], Awaitable[None]],
    ) -> None:
        with ui.element("section").classes("card stack class-column") as self.card:
            card = self.card
            card.props["aria-label"] = safe(class_)
            card.on("dragover", js_handler=DRAG)
            card.on("drop", lambda: page.move_chosen(class_), js_handler=DROP)
            with ui.element("div").classes("line no-wrap"):
                self._key = ui.label().classes("key")
                if album.can_add:
                    _name_field(class_, on_rename)
                else:
                    with ui.element("h2").classes("col ellipsis"):
                        ui.label(safe(class_, 80))
                self._number = ui.label().classes("note")
                with kit.icon_action("more_vert", f"More for {class_}", lambda: None), ui.menu():
                    ui.menu_item("Show all", lambda: on_all(class_))
                    if album.can_add:
                        ui.menu_item("Remove class", lambda: on_remove(class_))
            if album.can_add:
                Intake(
                    f"Photographs of {class_}",
                    accept=f"{IMAGES},{ARCHIVES}",
                    batch=batch_of(album.dataset.id, class_),
                    small=True,
                    around=".class-column",
                    opens=page.camera == class_,
                    on_all=lambda files: page.take(class_, files),
                )
            super().__init__(page, album, class_)
            self._more = kit.action("Show all", lambda: on_all(class_), kind="quiet")
            self._more.props("dense")
        self.place(at)
        self._count()

    def place(self, at: int) -> None:
        """Show the key of a class by its place."""
        self._key.set_text(key_of_class(at))
        self._key.set_visibility(bool(key_of_class(at)))

    def refresh(self, album: Album) -> None:
        """Show the photographs of an album, and their number."""
        super().refresh(album)
        self._count()

    def _count(self) -> None:
        number, whole = len(self.photos), self._album.contents.whole
        self._number.set_text(count(number) if whole else "…")
        self._more.set_text(f"Show all {count(number)}")
        self._more.set_visibility(whole and number > _SEVERAL)


def _tokens(album: Album, photos: Sequence[int], class_: str) -> Sequence[object]:
    """What tells the photographs of a column apart; decoded images only have positions."""
    if album.contents.files is None:
        return photos
    tokens = album.contents.tokens if class_ else album.contents.tray_tokens
    return [tokens[at] for at in photos]


def batch_of(set_id: str, class_: str = "") -> str:
    """What an upload is resumed by: the same in every window, and after a reload."""
    text = f"{set_id}\0{class_}".encode("utf-8", "surrogatepass")
    return hashlib.blake2s(text, digest_size=8).hexdigest()


def _name_field(class_: str, on_rename: Callable[[str, str], Awaitable[None]]) -> None:
    field = ui.input(value=class_).props("borderless dense maxlength=120").classes("col class-name")
    field.props["aria-label"] = f"Name of the class {safe(class_, 60)}"

    async def rename(event: events.GenericEventArguments) -> None:
        name = str(event.args or "").strip()
        if name and name != class_:
            await on_rename(class_, name)
        if not field.is_deleted:  # it was refused, or nothing was changed
            field.set_value(class_)

    # The value at that moment: what was typed last may still be on its way.
    field.on("blur", rename, js_handler="(event) => emit(event.target.value)")
    field.on("keydown.enter", js_handler="(event) => event.target.blur()")
    field.on("keydown.escape", lambda: field.set_value(class_))


async def show_class(page: _Page, album: Album, class_: str) -> None:
    """Show all photographs of a class in a window of their own, with a search by name."""
    with ui.dialog().props("maximized") as dialog, ui.card().classes("viewer"):
        dialog.props["aria-label"] = safe(class_)
        with ui.element("div").classes("line"):
            with ui.element("h2").classes("col"):
                ui.label(f"{safe(class_, 60)} {count(album.counts.get(class_, 0))}")
            search = ui.input(placeholder="Find by name").props("clearable debounce=200")
            search.props["aria-label"] = "Find photographs by name"
            everything = kit.action("Choose all", lambda: choose(range(len(column.photos))))
            everything.set_visibility(page.editable)
            kit.icon_action("close", "Close", dialog.close)
        with ui.element("div").classes("col scroll full-width"):
            column = PhotoColumn(page, album, class_, height=0, label=f"All of {class_}")

    def choose(positions: Iterable[int]) -> None:
        column.gallery.choose(positions)
        page.choose(column)

    def find() -> None:
        column.search(str(search.value or ""))
        choose(())

    search.on_value_change(find)
    page.whole = column
    await dialog
    page.whole = None
    choose(())
    dialog.delete()
