"""The columns of a project's photographs: one for each class, and the tray."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from nicegui import events, ui

from opsin.core.format import count
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.pages.album import Album
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.intake import IMAGES, Intake
from opsin.studio.ui.label_editor import DRAG, DROP, key_of_class
from opsin.studio.words import safe

#: Archives that are unpacked into class folders.
ARCHIVES: Final = ".zip,.tar,.tgz,.gz,.xz,.bz2"
# Height of a column's photographs, three rows, and photographs from which on all can be shown.
_HEIGHT: Final = 516
_SEVERAL: Final = 12
_FIRST: Final = 12


class Work(Protocol):
    """What a page does for its columns."""

    #: The class whose camera is opened at once.
    camera: str

    @property
    def editable(self) -> bool:
        """Whether photographs can be given another class."""

    def choose(self, column: PhotoColumn) -> None:
        """Photographs of a column were chosen."""

    async def open(self, column: PhotoColumn, at: int) -> None:
        """Show a photograph of a column large."""

    async def press(self, column: PhotoColumn, key: str, at: int) -> None:
        """A key was pressed on a photograph of a column."""

    async def drop(self, class_: str) -> None:
        """The chosen photographs were dropped on a class."""

    def follow(self, column: PhotoColumn | None) -> None:
        """Keep another column up to date as well, or none."""

    async def take(self, class_: str, files: Sequence[SentFile]) -> None:
        """Files have arrived for a class, or for whichever their folders say."""


class PhotoColumn:
    """Photographs in rows: of a class, or of the tray (no class).

    Args:
        work: The page.
        class_: The class.
        side: Side of the thumbnails.
        height: Height beyond which it scrolls; 0 for none.
    """

    def __init__(
        self, work: Work, album: Album, class_: str = "", *, height: int = _HEIGHT, label: str = ""
    ) -> None:
        self.class_, self._album = class_, album
        self._words = ""
        self.photos = self._all()
        editable = work.editable or not class_
        self.gallery = ImageGallery(
            label or (f"Photographs of {class_}" if class_ else "Photographs not sorted yet"),
            self._some(0, _FIRST),
            count=len(self.photos),
            fetch=self._some,
            on_choose=(lambda: work.choose(self)) if editable else None,
            on_open=lambda at: work.open(self, at),
            on_key=(lambda key, at: work.press(self, key, at)) if editable else None,
            draggable=editable,
            captions=False,
            height=height,
        )

    @property
    def chosen(self) -> list[int]:
        """Positions of the chosen photographs in the album, or in the tray."""
        return [self.photos[at] for at in self.gallery.chosen if at < len(self.photos)]

    def refresh(self, album: Album) -> None:
        """Show the photographs of an album."""
        before = self._state()
        self._album = album
        self.photos = self._all()
        if self._state() != before and not self.gallery.is_deleted:
            self.gallery.show(self._some(0, _FIRST), len(self.photos))

    def search(self, words: str) -> None:
        """Show only photographs whose names have some words in them."""
        self._words = words.casefold()
        self.photos = self._all()
        self.gallery.show(self._some(0, _FIRST), len(self.photos))

    def title(self, at: int) -> str:
        """A photograph's file name, by its place in the column."""
        photo = self.photos[at]
        name = self._album.name(photo) if self.class_ else self._album.contents.tray[photo].name
        return name.rpartition("/")[2]

    def address(self, at: int, *, large: bool = False) -> str:
        """A photograph's address, by its place in the column."""
        photo = self.photos[at]
        if self.class_:
            return self._album.address(photo, large=large)
        return self._album.tray_address(photo, large=large)

    def _state(self) -> list[str]:
        tokens = self._album.contents.tokens if self.class_ else self._album.contents.tray_tokens
        return [tokens[at] for at in self.photos]

    def _all(self) -> list[int]:
        if not self.class_:
            return list(range(len(self._album.contents.tray)))
        if self.class_ not in self._album.classes:
            return []
        photos: list[int] = self._album.of(self._album.classes.index(self.class_)).tolist()
        if self._words:
            photos = [at for at in photos if self._words in self._album.name(at).casefold()]
        return photos

    def _some(self, low: int, high: int) -> list[GalleryImage]:
        class_ = self.class_ or "not sorted"
        return [
            GalleryImage(self.address(at), f"{class_}, {self.title(at)}")
            for at in range(low, min(high, len(self.photos)))
        ]


class ClassColumn(PhotoColumn):
    """A class: its name, number, photographs, and places for more of them.

    Args:
        work: The page.
        album: The photographs.
        class_: The class.
        at: Its place, which decides its key.
        on_rename: Is given the class and its new name.
        on_remove: Removes the class.
        on_all: Shows all its photographs.
    """

    def __init__(
        self,
        work: Work,
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
            card.on("drop", lambda: work.drop(class_), js_handler=DROP)
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
                small_intake(work, album, class_)
            super().__init__(work, album, class_)
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
        number = len(self.photos)
        self._number.set_text(count(number))
        self._more.set_text(f"Show all {count(number)}")
        self._more.set_visibility(number > _SEVERAL)


def small_intake(work: Work, album: Album, class_: str) -> None:
    """A place for photographs of one class."""
    Intake(
        f"Photographs of {class_}",
        accept=f"{IMAGES},{ARCHIVES}",
        batch=batch_of(album.dataset.id, class_),
        small=True,
        around=".class-column",
        opens=work.camera == class_,
        on_all=lambda files: work.take(class_, files),
    )


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
        elif not field.is_deleted:
            field.set_value(class_)

    # The value at that moment: what was typed last may still be on its way.
    field.on("blur", rename, js_handler="(event) => emit(event.target.value)")
    field.on("keydown.enter", js_handler="(event) => event.target.blur()")
    field.on("keydown.escape", lambda: field.set_value(class_))
