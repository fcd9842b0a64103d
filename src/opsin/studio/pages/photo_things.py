"""The line "7 things to look at", and the list of them that it opens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.format import count, counted
from opsin.studio.datasets.album import Album
from opsin.studio.pages.photo_findings import SettledThings, Thing, things_to_look_at
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit
from opsin.studio.ui.label_editor import decisions
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

# Things on the list at first, and pictures of each.
_SHOWN: Final = 20
_PICTURES: Final = 6

#: Does a change, with words and undo of its own where it is none of an album's.
Do = Callable[..., Awaitable[None]]


class ThingsDialog:
    """A button with the number of things to look at, and their list.

    Args:
        studio: The state of all windows.
        do: The page's way to change something.
    """

    def __init__(self, studio: Studio, do: Do) -> None:
        self._studio, self._do, self._albums = studio, do, studio.albums
        self._things: list[Thing] = []
        self._album: Album | None = None
        self._most = _SHOWN
        self._button = kit.action("", self._open, icon="rule")
        self._button.set_visibility(False)
        with ui.dialog() as self._dialog, ui.card().classes("stack things"):
            self._dialog.props["aria-label"] = "Things to look at"
            with ui.element("div").classes("line no-wrap"):
                with ui.element("h2").classes("col"):
                    self._title = ui.label()
                kit.icon_action("close", "Close", self._dialog.close)
            self._list = ui.element("div").classes("stack")

    async def show(self, album: Album) -> None:
        """Look for things in an album, and show their number."""
        self._album = album
        self._things = await things_to_look_at(self._studio, album)
        if self._button.is_deleted:
            return
        number = len(self._things)
        words = f"{counted(number, 'thing')} to look at"
        self._button.set_text(words)
        self._button.set_visibility(bool(number))
        self._title.set_text(words if number else "Everything was looked at")
        if self._dialog.value:
            self._fill()

    def _open(self) -> None:
        self._most = _SHOWN
        self._fill()
        self._dialog.open()

    def _fill(self) -> None:
        self._list.clear()
        with self._list:
            for thing in self._things[: self._most]:
                self._thing(thing)
            if len(self._things) > self._most:
                kit.action(f"Show more of {count(len(self._things))}", self._show_more)

    def _show_more(self) -> None:
        self._most += _SHOWN
        self._fill()

    def _thing(self, thing: Thing) -> None:
        album = self._album
        if album is None:
            return
        with ui.element("article").classes("thing"):
            with ui.element("div").classes("line"):
                for at in thing.photos[:_PICTURES]:
                    name, class_ = album.name(at).rpartition("/")[2], album.class_of(at)
                    with ui.element("figure"):
                        image = ui.element("img").props("loading=lazy")
                        image.props["src"] = kit.rooted(album.address(at))
                        image.props["alt"] = safe(name)
                        with ui.element("figcaption").classes("note"):
                            ui.label(safe(class_, 24))
            with ui.element("div").classes("stack"):
                kit.heading(thing.text, 3)
                self._answers(album, thing)

    def _answers(self, album: Album, thing: Thing) -> None:
        first, *others = thing.photos

        def fine() -> Awaitable[None]:
            return self._settle(thing)

        def remove(photos: list[int]) -> Callable[[], Awaitable[None]]:
            return lambda: self._do(self._albums.remove(album, photos))

        def move(class_: str) -> Awaitable[None]:
            return self._do(self._albums.move(album, [first], class_))

        match thing.kind:
            case "suspect":
                label, answer = album.class_of(first), thing.suggested
                answers: list[tuple[str, kit.Handler]] = [
                    (f"It is {safe(answer, 30)}", lambda: move(answer)),
                    (f"It is {safe(label, 30)}", fine), ("Remove", remove([first])),
                ]  # fmt: skip
                decisions(answers, [name for name in album.classes if name != label], move)
            case "conflict":
                classes = sorted({album.class_of(at) for at in thing.photos})
                others_of = {
                    name: [at for at in thing.photos if album.class_of(at) != name]
                    for name in classes
                }
                answers = [
                    (f"It is {safe(name, 30)}", remove(photos))
                    for name, photos in others_of.items()
                ]
                decisions([*answers, ("Remove all", remove([*thing.photos])), ("It is fine", fine)])
            case "copies":
                decisions([("Keep one", remove(others)), ("It is fine", fine)])
            case "unreadable" if not album.can_add:
                decisions([("Leave it", fine)])
            case _:
                decisions([("Remove", remove([first])), ("It is fine", fine)])

    async def _settle(self, thing: Thing) -> None:
        album = self._album
        if album is None:
            return
        settled = SettledThings(self._studio.sets.folder(album.dataset.id))

        async def change(value: bool) -> str:
            await IMAGES.run(settled.settle, thing.key, value)
            return "It is fine"

        async def undo() -> None:
            await self._do(change(False), "Looked at again", undo=lambda: self._do(change(True)))

        await self._do(change(True), undo=undo)
