"""Galleries of any number of images, loaded as they come into sight, and one of them large."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from nicegui import events, ui
from nicegui.element import Element

from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.studio.ui.kit import action, error_line, finished, icon_action, rooted, sharpen
from opsin.studio.words import safe

#: What is marked on an image by a sign and a colour.
Mark = Literal["", "right", "wrong", "corrected", "left out"]

# Images that are sent with the page, and at most by one request.
_FIRST: Final = 24
_MOST: Final = 600
_CAPTION: Final = 44
# The keys of the first classes; f finds like ones, m and x set aside, u undoes.
_KEYS: Final = "123456789abcdeghijklnopqrstvwyz"
#: The keys of a gallery, and what they do.
GALLERY_KEYS: Final = (
    ("Arrows", "next photograph"),
    ("Space", "select"),
    ("Shift", "select a range"),
    ("Ctrl-A, Esc", "select all, none"),
    ("Enter", "large"),
)
# Classes up to which each has a button.
_BUTTONS: Final = 12


@dataclass(frozen=True)
class GalleryImage:
    """An image: its address, text for those who cannot see it, caption and mark."""

    src: str
    alt: str
    caption: str = ""
    mark: Mark = ""
    # Of the image in large: its address, title (default: caption), and lines below.
    large: str = ""
    title: str = ""
    lines: tuple[str, ...] = ()


class ImageGallery(Element, component="gallery.js"):
    """Images in rows, chosen by click, range and keyboard, and opened by a click.

    Args:
        image: Describes an item as it comes into sight (default: items are images).
        on_choose: Is called whenever the choice, `chosen`, changes; without it none are chosen.
        on_open: Is called with the gallery and the position of an image that is clicked; it may be
            an `ImageViewer`.
        on_key: Is called with a letter, digit or ``Delete`` pressed on an image, and its position.
        draggable: Whether images can be dragged; those dragged are chosen.
        height: Height in pixels beyond which it scrolls by itself (default: with the page).
    """

    def __init__(
        self,
        label: str,
        items: Sequence[Any] = (),
        image: Callable[[Any], GalleryImage] = lambda item: item,
        *,
        on_choose: Callable[[], Awaitable[object] | object] | None = None,
        on_open: Callable[[ImageGallery, int], Awaitable[object] | object] | None = None,
        on_key: Callable[[str, int], Awaitable[object] | object] | None = None,
        draggable: bool = False,
        captions: bool = True,
        side: int = 160,
        height: int = 0,
    ) -> None:
        super().__init__()
        self.image, self._on_choose = image, on_choose
        self.viewer: ImageViewer | None = None  # that is open
        self.props.update(
            {
                "label": safe(label),
                "version": 0,
                "choosable": on_choose is not None,
                "openable": on_open is not None,
                "draggable": draggable,
                "captions": captions,
                "side": side,
                "height": height,
            }
        )
        self.show(items)
        self.on("need", self._send)
        self.on("choose", self._choose)
        if on_open:
            self.on("open", lambda event: on_open(self, self._position(event.args)))
        if on_key:
            self.on(
                "key",
                lambda event: on_key(str(event.args["key"]), self._position(event.args["at"])),
            )

    @property
    def chosen(self) -> list[int]:
        """Positions of the chosen images."""
        return sorted(self._chosen)

    def choose(self, positions: Iterable[int]) -> None:
        """Choose images; ``on_choose`` is not called."""
        self._chosen = {position for position in positions if 0 <= position < len(self.items)}
        ranges: list[list[int]] = []  # ends excluded
        for position in self.chosen:
            if ranges and ranges[-1][1] == position:
                ranges[-1][1] += 1
            else:
                ranges.append([position, position + 1])
        self.props["chosen"] = ranges
        self.update()

    def show(self, items: Sequence[Any]) -> None:
        """Show other images, or these as they are described now; what was chosen is not."""
        self.items = items
        self.props.update({"count": len(items), "first": self._described(0, _FIRST)})
        self.props["version"] += 1
        self.choose(())
        if self.viewer:
            self.viewer.refresh()

    def _described(self, low: int, high: int) -> list[dict[str, str]]:
        images = map(self.image, self.items[low : min(high, low + _MOST)])
        return [
            {
                "src": rooted(image.src),
                "caption": safe(image.caption, _CAPTION),
                "alt": safe(image.alt) + (f", {image.mark}" if image.mark else ""),
                "mark": image.mark,
            }
            for image in images
        ]

    def _send(self, event: events.GenericEventArguments) -> None:
        if event.args.get("version") == self.props["version"]:
            low = self._position(event.args["low"])
            self.run_method("take", low, self._described(low, int(event.args["high"])))

    async def _choose(self, event: events.GenericEventArguments) -> None:
        named = set(
            range(max(0, int(event.args["low"])), min(int(event.args["high"]), len(self.items)))
        )
        before = self._chosen
        self.choose({"toggle": before ^ named, "add": before | named}.get(event.args["how"], named))
        if self._on_choose:
            await finished(self._on_choose())

    def _position(self, value: Any) -> int:
        return max(0, min(int(value), len(self.items) - 1))


def class_of_key(key: str, classes: Sequence[str]) -> str | None:
    """The class that a key stands for, if any."""
    at = _KEYS.find(key.lower()) if len(key) == 1 else -1
    return classes[at] if 0 <= at < len(classes) else None


def key_of_class(at: int) -> str:
    """The key of a class by its place; ``""`` if it has none."""
    return _KEYS[at : at + 1]


def class_select(
    classes: Sequence[str],
    on_choose: Callable[[str], Awaitable[object] | object],
    label: str = "Move to",
) -> None:
    """A field that hands the class on that is chosen, and is empty again."""
    names = {at: safe(name, 60) for at, name in enumerate(classes)}
    field = ui.select(names, label=label, with_input=len(names) > _BUTTONS)
    field.props("options-dense dense").style("min-width: 160px")

    async def choose() -> None:
        if isinstance(at := field.value, int) and at < len(classes):
            field.set_value(None)
            await finished(on_choose(classes[at]))

    field.on_value_change(choose)


class ImageViewer:
    """An image of a gallery, large, in a dialog; arrow keys move, Escape closes.

    Args:
        every: Items that the arrow keys go through, of other galleries too (default: of this one).
        classes: Classes that images can be given, by button and key.
        relabel: Gives an item of the gallery a class, or removes it (``None``).
        remove: The button that removes it; none if empty.
    """

    def __init__(
        self,
        gallery: ImageGallery,
        at: int,
        classes: Sequence[str] = (),
        relabel: Callable[[Any, str | None], Awaitable[object] | object] | None = None,
        *,
        every: Sequence[Any] = (),
        remove: str = "Remove",
        undo: Callable[[], Awaitable[object] | object] | None = None,
    ) -> None:
        self._gallery, self._every, self._classes = gallery, every, classes
        self._at = every.index(gallery.items[at]) if every else at
        self._relabel, self._undo, self._remove = relabel, undo, remove
        with ui.dialog(value=True).props("maximized") as self._dialog, ui.card().classes("viewer"):
            self._dialog.on("hide", self._leave).props["aria-label"] = "Photograph"
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
                if len(classes) > _BUTTONS:
                    class_select(classes, self._give, "Choose a class")
                for number, name in enumerate(classes if len(classes) <= _BUTTONS else ()):
                    text = f"{safe(name, 30)} ({key_of_class(number).upper()})"
                    action(text, lambda name=name: self._give(name)).props("dense")
                if relabel and remove:
                    action(f"{remove} (Delete)", lambda: self._give(None)).props("dense")
                if undo:
                    action("Undo (U)", lambda: self._do(undo)).props("dense")
            # A button that was clicked keeps the focus: keys count there, too.
            ui.keyboard(self._key, ignore=["input", "select", "textarea"])
        gallery.viewer = self
        self.refresh()

    @property
    def _items(self) -> Sequence[Any]:
        return self._every or self._gallery.items

    def _leave(self) -> None:
        self._gallery.viewer = None
        self._dialog.delete()

    def refresh(self) -> None:
        """Show the image again, or the last one where there are fewer now."""
        number = len(self._items)
        if not number or self._dialog.is_deleted:
            self._dialog.close()
            return
        self._at = min(self._at, number - 1)
        image = self._gallery.image(self._items[self._at])
        source = rooted(image.large or image.src)
        self._image.props.update({"src": source, "alt": safe(image.alt)})
        self._title.set_text(safe(image.title or image.caption))
        self._place.set_text(f"{count(self._at + 1)} of {count(number)}")
        self._lines.clear()
        with self._lines:
            for line in image.lines:
                ui.label(safe(line))

    def _move(self, by: int) -> None:
        if 0 <= self._at + by < len(self._items):
            self._at += by
            self.refresh()

    async def _give(self, class_: str | None) -> None:
        if relabel := self._relabel:
            await self._do(lambda: relabel(self._items[self._at], class_))

    async def _do(self, work: Callable[[], Awaitable[object] | object]) -> None:
        try:
            await finished(work())
        except OpsinError as error:
            with self._lines:
                error_line(error)
        else:
            self.refresh()

    async def _key(self, event: events.KeyEventArguments) -> None:
        if not event.action.keydown or event.modifiers.ctrl or event.modifiers.meta:
            return
        if not self._dialog.value:  # it is just closing
            return
        if event.key.arrow_left or event.key.arrow_right:
            self._move(1 if event.key.arrow_right else -1)
        elif event.key.name == "u" and self._undo:
            await self._do(self._undo)
        elif event.key.name == "Delete" and self._remove:
            await self._give(None)
        elif (class_ := class_of_key(event.key.name, self._classes)) is not None:
            await self._give(class_)
