"""A column of a project's photographs: those of a class, or those without one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nicegui import events, ui

from opsin.studio.datasets.album import UNSORTED, Album
from opsin.studio.people import allows
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.words import safe

#: Height of a column's photographs: three rows.
HEIGHT: Final = 516


class Column:
    """Photographs in rows: of a class, or of the tray (no class).

    Args:
        class_: The class.
        choose: Is called when some were chosen.
        open_large: Shows the photograph at a place large.
        press: Is given a key that was pressed on the photograph at a place.
        say: Is given how many there are.
    """

    def __init__(
        self, class_: str, choose: Callable[[Column], object],
        open_large: Callable[[Column, int], object],
        press: Callable[[Column, str, int], Awaitable[None]], say: Callable[[int], object],
    ) -> None:  # fmt: skip
        self.class_, self.photos, self._say = class_, list[int](), say
        self._shown: Sequence[object] = ()
        may = allows("labeller")
        self.gallery = ImageGallery(
            f"Photographs of {class_}" if class_ else "Photographs not sorted yet", (), self._image,
            on_choose=(lambda: choose(self)) if may else None,
            on_open=lambda at: open_large(self, at),
            on_key=(lambda key, at: press(self, key, at)) if may else None,
            draggable=may, captions=False, height=HEIGHT,
        )  # fmt: skip

    @property
    def chosen(self) -> list[int]:
        """Positions of the chosen photographs in the album."""
        return [self.photos[at] for at in self.gallery.chosen]

    def refresh(self, album: Album, searched: str) -> None:
        """Show the photographs of an album, or those with some words in their names."""
        self._album, contents = album, album.contents
        if not self.class_:
            self.photos = album.of(UNSORTED).tolist()
        elif self.class_ in album.classes:
            self.photos = album.of(album.classes.index(self.class_)).tolist()
            if searched not in self.class_.casefold():
                self.photos = [at for at in self.photos if searched in album.name(at).casefold()]
        shown: Sequence[object] = self.photos  # decoded images only have positions
        if contents.files is not None:
            shown = [contents.tokens[at] for at in self.photos]
        if shown != self._shown:
            self._shown = shown
            self.gallery.show(range(len(shown)))
        self._say(len(shown))

    def title(self, at: int) -> str:
        """A photograph's file name, by its place in the column."""
        return self._album.name(self.photos[at]).rpartition("/")[2]

    def address(self, at: int, *, large: bool = False) -> str:
        """A photograph's address, by its place in the column."""
        return self._album.address(self.photos[at], large=large)

    def _image(self, at: int) -> GalleryImage:
        return GalleryImage(self.address(at), f"{self.class_ or 'not sorted'}, {self.title(at)}")


def name_field(class_: str, on_rename: Callable[[str, str], Awaitable[None]]) -> None:
    """The name of a class, which is changed in place."""
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
