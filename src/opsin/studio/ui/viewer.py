"""One image, large: arrows lead to the next one, and keys give it a class."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nicegui import binding, events, ui

from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage
from opsin.studio.words import safe

# The keys of the first classes; u undoes.
_KEYS: Final = "123456789abcdefghijklmnopqrstvwxyz"
# Classes up to which each has a button.
_BUTTONS: Final = 12


def class_of_key(key: str, classes: Sequence[str]) -> str | None:
    """The class that a key stands for, if any."""
    at = _KEYS.find(key.lower()) if len(key) == 1 else -1
    return classes[at] if 0 <= at < len(classes) else None


def key_of_class(at: int) -> str:
    """The key of a class by its place; ``""`` if it has none."""
    return _KEYS[at : at + 1]


def class_select(
    classes: Sequence[str], on_choose: Callable[[str], Awaitable[object] | object],
    label: str = "Move to",
) -> None:  # fmt: skip
    """A field that hands the class on that is chosen, and is empty again."""
    names = {at: safe(name, 60) for at, name in enumerate(classes)}
    field = ui.select(names, label=label, with_input=len(names) > _BUTTONS)
    field.props("options-dense dense").style("min-width: 160px")

    async def choose() -> None:
        if isinstance(at := field.value, int) and at < len(classes):
            field.set_value(None)
            await kit.finished(on_choose(classes[at]))

    field.on_value_change(choose)


class ImageViewer:
    """A dialog with one of many images; arrow keys move, Escape closes.

    Args:
        describe: Returns the image at a position; its caption is the title.
        classes: Classes that images can be given, by button and key.
        relabel: Gives the image at a position a class, or removes it (``None``).
        remove: The button that removes it.
    """

    def __init__(
        self, number: Callable[[], int], describe: Callable[[int], GalleryImage],
        classes: Sequence[str] = (),
        relabel: Callable[[int, str | None], Awaitable[object] | object] | None = None,
        *, remove: str = "Remove", undo: Callable[[], Awaitable[object] | object] | None = None,
    ) -> None:  # fmt: skip
        self._number, self._describe, self._classes = number, describe, classes
        self._relabel, self._undo, self._at = relabel, undo, 0
        with ui.dialog().props("maximized") as self._dialog, ui.card().classes("viewer"):
            self._dialog.props["aria-label"] = "Image"
            with ui.element("div").classes("line no-wrap"):
                self._title = ui.label().classes("text-weight-bold col ellipsis")
                self._place = ui.label().classes("note")
                kit.icon_action("chevron_left", "Previous (←)", lambda: self._move(-1))
                kit.icon_action("chevron_right", "Next (→)", lambda: self._move(1))
                kit.icon_action("close", "Close (Esc)", self._dialog.close)
            self._image = ui.element("img").classes("viewer-image")
            kit.sharpen(self._image)
            self._lines = ui.element("div").classes("note")
            with ui.element("div").classes("line"):
                if len(classes) > _BUTTONS:
                    class_select(classes, self._give, "Choose a class")
                for at, name in enumerate(classes if len(classes) <= _BUTTONS else ()):
                    text = f"{safe(name, 30)} ({key_of_class(at).upper()})"
                    kit.action(text, lambda name=name: self._give(name)).props("dense")
                if relabel:
                    kit.action(f"{remove} (Delete)", lambda: self._give(None)).props("dense")
                if undo:
                    kit.action("Undo (U)", lambda: self._do(undo)).props("dense")
            # A button that was clicked keeps the focus: keys count there, too.
            keys = ui.keyboard(self._key, active=False, ignore=["input", "select", "textarea"])
        binding.bind_from(keys, "active", self._dialog, "value")

    def open(self, position: int) -> None:
        """Show the image at a position."""
        self._at = position
        self._dialog.open()
        self.refresh()

    def refresh(self) -> None:
        """Show the image again, or the last one where there are fewer now."""
        number = self._number()
        if not number or self._dialog.is_deleted:
            self._dialog.close()
            return
        self._at = max(0, min(self._at, number - 1))
        image = self._describe(self._at)
        self._image.props.update({"src": kit.rooted(image.src), "alt": safe(image.alt)})
        self._title.set_text(safe(image.caption))
        self._place.set_text(f"{count(self._at + 1)} of {count(number)}")
        self._lines.clear()
        with self._lines:
            for line in image.lines:
                ui.label(safe(line))

    def _move(self, by: int) -> None:
        if 0 <= self._at + by < self._number():
            self._at += by
            self.refresh()

    async def _give(self, class_: str | None) -> None:
        if relabel := self._relabel:
            await self._do(lambda: relabel(self._at, class_))

    async def _do(self, work: Callable[[], Awaitable[object] | object]) -> None:
        try:
            await kit.finished(work())
        except OpsinError as error:
            with self._lines:
                kit.error_line(error)
        else:
            self.refresh()

    async def _key(self, event: events.KeyEventArguments) -> None:
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta:
            return
        if event.key.arrow_left or event.key.arrow_right:
            self._move(1 if event.key.arrow_right else -1)
        elif event.key.name == "u" and self._undo:
            await self._do(self._undo)
        elif event.key.name == "Delete":
            await self._give(None)
        elif (class_ := class_of_key(event.key.name, self._classes)) is not None:
            await self._give(class_)
