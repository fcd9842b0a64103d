"""One image, large: arrows lead to the next, and keys do what the page offers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nicegui import events, ui

from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.kit import action, error_line, icon_action, rooted, sharpen
from opsin.studio.words import safe


@dataclass(frozen=True)
class ViewedImage:
    """A large image: its address in original form, text, title and lines below it."""

    src: str
    alt: str
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class ViewerAction:
    """A button of the viewer, and the key that presses it; it gets the image's position."""

    text: str
    key: str
    work: Callable[[int], Awaitable[object] | object]
    shown: bool = True


class ImageViewer:
    """A dialog with one of many images; arrow keys move, Escape closes.

    Args:
        number: Returns the number of images now.
        describe: Returns the image at a position; it may wait for it.
        actions: Buttons below the image, each with a key.
    """

    def __init__(
        self,
        number: Callable[[], int],
        describe: Callable[[int], Awaitable[ViewedImage] | ViewedImage],
        actions: Sequence[ViewerAction] = (),
    ) -> None:
        self._number, self._describe, self._actions = number, describe, actions
        self._at = 0
        with ui.dialog().props("maximized") as self._dialog, ui.card().classes("viewer"):
            self._dialog.props["aria-label"] = "Image"
            with ui.element("div").classes("line no-wrap"):
                self._title = ui.label().classes("text-weight-bold col ellipsis")
                self._place = ui.label().classes("note")
                icon_action("chevron_left", "Previous (←)", lambda: self._move(-1))
                icon_action("chevron_right", "Next (→)", lambda: self._move(1))
                icon_action("close", "Close (Esc)", self._dialog.close)
            self._image = ui.element("img").classes("viewer-image")
            sharpen(self._image)
            self._lines = ui.element("div").classes("note")
            with ui.element("div").classes("line"):
                for item in (item for item in actions if item.shown):
                    key = item.key.upper() if len(item.key) == 1 else item.key
                    text = f"{item.text} ({key})" if key else item.text
                    action(text, lambda item=item: self._do(item)).props("dense")
            # A button that was clicked keeps the focus: keys count there, too.
            self._keys = ui.keyboard(
                self._press, active=False, ignore=["input", "select", "textarea"]
            )
        self._dialog.on_value_change(lambda event: setattr(self._keys, "active", event.value))

    async def open(self, position: int) -> None:
        """Show the image at a position."""
        self._at = position
        self._dialog.open()
        await self.refresh()

    async def refresh(self) -> None:
        """Show the image again, or the last one where there are fewer now."""
        number = self._number()
        if not number or self._dialog.is_deleted:
            self._dialog.close()
            return
        self._at = at = max(0, min(self._at, number - 1))
        try:
            viewed = self._describe(at)
            if inspect.isawaitable(viewed):
                viewed = await viewed
        except OpsinError as error:
            viewed = ViewedImage("", "", "", (str(error),))
        if at != self._at or self._dialog.is_deleted:
            return  # another one was asked for meanwhile
        self._image.props.update({"src": rooted(viewed.src), "alt": safe(viewed.alt)})
        self._title.set_text(safe(viewed.title))
        self._place.set_text(f"{count(at + 1)} of {count(number)}")
        self._lines.clear()
        with self._lines:
            for line in viewed.lines:
                ui.label(safe(line))

    async def _move(self, by: int) -> None:
        if 0 <= self._at + by < self._number():
            self._at += by
            await self.refresh()

    async def _do(self, item: ViewerAction) -> None:
        try:
            result = item.work(self._at)
            if inspect.isawaitable(result):
                await result
        except OpsinError as error:
            with self._lines:
                error_line(error)
        else:
            await self.refresh()

    async def _press(self, event: events.KeyEventArguments) -> None:
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta:
            return
        if event.key.arrow_left or event.key.arrow_right:
            await self._move(1 if event.key.arrow_right else -1)
            return
        for item in self._actions:
            if item.key and event.key.name.lower() == item.key.lower():
                await self._do(item)


def viewed_gallery(
    label: str, number: int, small: Callable[[int], GalleryImage],
    describe: Callable[[int], ViewedImage], actions: Sequence[ViewerAction] = (),
) -> ImageGallery:  # fmt: skip
    """A gallery whose images open large; many of them scroll by themselves."""

    def some(low: int, high: int) -> list[GalleryImage]:
        return [small(at) for at in range(low, min(high, number))]

    viewer = ImageViewer(lambda: number, describe, actions)
    return ImageGallery(label, some(0, 60), count=number, fetch=some, on_open=viewer.open,
                        height=440 if number > 18 else 0)  # fmt: skip
