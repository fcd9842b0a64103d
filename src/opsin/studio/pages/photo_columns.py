"""The columns of a project's photographs: one for each class, and the tray."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from nicegui import events, ui

from opsin.core.format import count
from opsin.studio.people import allows
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.intake import Intake
from opsin.studio.ui.viewer import key_of_class
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.pages.photos import Photos

# Height of a column's photographs, three rows, and photographs from which on all can be shown.
_HEIGHT: Final = 516
_SEVERAL: Final = 12


class Column:
    """Photographs in rows: of a class, or of the tray (no class).

    Args:
        page: Does what is asked of the photographs.
        class_: The class.
        say: Is given how many there are.
    """

    def __init__(self, page: Photos, class_: str, say: Callable[[int], object]) -> None:
        self.class_, self.photos, self._page, self._say = class_, list[int](), page, say
        self._shown: Sequence[object] = ()
        may = allows("labeller")
        self.gallery = ImageGallery(
            f"Photographs of {class_}" if class_ else "Photographs not sorted yet", (), self._image,
            on_choose=(lambda: page.choose(self)) if may else None,
            on_open=lambda at: page.open(self, at),
            on_key=(lambda key, at: page.press(self, key, at)) if may else None,
            draggable=may, captions=False, height=_HEIGHT,
        )  # fmt: skip
        self.refresh()

    @property
    def chosen(self) -> list[int]:
        """Positions of the chosen photographs in the album, or in the tray."""
        return [self.photos[at] for at in self.gallery.chosen] if self._shown else []

    def refresh(self) -> None:
        """Show its photographs as they are now, or those that are searched."""
        album, contents, words = self._page.album, self._page.album.contents, self._page.searched
        if not self.class_:
            self.photos = list(range(len(contents.tray)))
        elif self.class_ in album.classes:
            self.photos = album.of(album.classes.index(self.class_)).tolist()
            if words not in self.class_.casefold():
                self.photos = [at for at in self.photos if words in album.name(at).casefold()]
        shown: Sequence[object] = self.photos  # decoded images only have positions
        if contents.files is not None:
            tokens = contents.tokens if self.class_ else contents.tray_tokens
            shown = [tokens[at] for at in self.photos]
        if shown != self._shown:
            self._shown = shown
            self.gallery.show(range(len(shown)))
        self._say(len(shown))

    def title(self, at: int) -> str:
        """A photograph's file name, by its place in the column."""
        album, photo = self._page.album, self.photos[at]
        name = album.name(photo) if self.class_ else album.contents.tray[photo].name
        return name.rpartition("/")[2]

    def address(self, at: int, *, large: bool = False) -> str:
        """A photograph's address, by its place in the column."""
        return self._page.album.address(self.photos[at], large=large, in_tray=not self.class_)

    def _image(self, at: int) -> GalleryImage:
        return GalleryImage(self.address(at), f"{self.class_ or 'not sorted'}, {self.title(at)}")


def class_column(page: Photos, class_: str) -> tuple[Column, ui.element]:
    """A class: its name, number, photographs, and places for more; and the card around them."""
    album = page.album

    def say(many: int) -> None:
        whole, classes = page.album.contents.whole, page.album.classes
        number.set_text(count(many) if whole else "…")
        more.set_visibility(whole and many > _SEVERAL)
        key.set_text(key_of_class(classes.index(class_)) if class_ in classes else "")
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
        card.on("drop", partial(page.move, class_),
                js_handler=f"(event) => {files} || (event.preventDefault(), emit())")  # fmt: skip
        with ui.element("div").classes("line no-wrap"):
            key = ui.label().classes("key")
            if album.can_add:
                _name_field(page, class_)
            else:
                with ui.element("h2").classes("col ellipsis"):
                    ui.label(safe(class_, 80))
            number = ui.label().classes("note")
            if album.can_add:
                remove = partial(page.rename, class_)
                kit.icon_action("delete_outline", f"Remove the class {class_}", remove)
        if album.can_add:
            Intake(
                f"Photographs of {class_}", small=True, around=".class-column",
                batch=batch_of(page.project.id, class_), opens=page.camera,
                on_all=partial(page.take, class_),
            )  # fmt: skip
            page.camera = False  # of the first class only
        place = ui.element("div").classes("full-width")
        more = kit.action("Show all", show_all, kind="quiet").props("dense")
        with place:
            column = Column(page, class_, say)
    return column, card


def batch_of(set_id: str, class_: str = "") -> str:
    """What an upload is resumed by: the same in every window, and after a reload."""
    text = f"{set_id}\0{class_}".encode("utf-8", "surrogatepass")
    return hashlib.blake2s(text, digest_size=8).hexdigest()


def _name_field(page: Photos, class_: str) -> None:
    field = ui.input(value=class_).props("borderless dense maxlength=120").classes("col class-name")
    field.props["aria-label"] = f"Name of the class {safe(class_, 60)}"

    async def rename(event: events.GenericEventArguments) -> None:
        name = str(event.args or "").strip()
        if name and name != class_:
            await page.rename(class_, name)
        if not field.is_deleted:  # it was refused, or nothing was changed
            field.set_value(class_)

    # The value at that moment: what was typed last may still be on its way.
    field.on("blur", rename, js_handler="(event) => emit(event.target.value)")
    field.on("keydown.enter", js_handler="(event) => event.target.blur()")
    field.on("keydown.escape", lambda: field.set_value(class_))
