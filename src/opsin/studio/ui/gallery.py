"""Galleries of any number of images, of which only those in sight are loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from nicegui import events
from nicegui.element import Element

from opsin.studio.ui.kit import finished, rooted
from opsin.studio.words import safe

#: What is marked on an image by a sign and a colour.
Mark = Literal["", "right", "wrong", "corrected", "left out"]

# Images that are sent with the page, and at most by one request.
_FIRST: Final = 24
_MOST: Final = 600
_CAPTION: Final = 44


@dataclass(frozen=True)
class GalleryImage:
    """An image: its address, text for those who cannot see it, caption, mark and, large, lines."""

    src: str
    alt: str
    caption: str = ""
    mark: Mark = ""
    lines: tuple[str, ...] = ()


class ImageGallery(Element, component="gallery.js"):
    """Images in rows, chosen by click, range and keyboard, and opened by a click.

    Args:
        label: What the images are, for those who cannot see them.
        items: The images, or what they are described by.
        image: Describes an item as it comes into sight (default: items are images).
        on_choose: Is called whenever the choice, `chosen`, changes; without it none are chosen.
        on_open: Is called with the position of an image that is clicked.
        on_key: Is called with a letter, digit or ``Delete`` pressed on an image, and its position.
        draggable: Whether images can be dragged; those dragged are chosen.
        height: Height in pixels beyond which it scrolls by itself (default: with the page).
    """

    def __init__(
        self, label: str, items: Sequence[Any] = (),
        image: Callable[[Any], GalleryImage] = lambda item: item, *,
        on_choose: Callable[[], Awaitable[object] | object] | None = None,
        on_open: Callable[[int], Awaitable[object] | object] | None = None,
        on_key: Callable[[str, int], Awaitable[object] | object] | None = None,
        draggable: bool = False, captions: bool = True, side: int = 160, height: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self._image, self._on_choose = image, on_choose
        self.props.update({
            "label": safe(label), "version": 0, "choosable": on_choose is not None,
            "openable": on_open is not None, "draggable": draggable, "captions": captions,
            "side": side, "height": height,
        })  # fmt: skip
        self.show(items)
        self.on("need", self._send)
        self.on("choose", self._choose)
        if on_open:
            self.on("open", lambda event: on_open(self._position(event.args)))
        if on_key:
            self.on("key", lambda event: on_key(
                str(event.args["key"]), self._position(event.args["at"])
            ))  # fmt: skip

    @property
    def chosen(self) -> list[int]:
        """Positions of the chosen images."""
        return sorted(self._chosen)

    def choose(self, positions: Iterable[int]) -> None:
        """Choose images; ``on_choose`` is not called."""
        self._chosen = {position for position in positions if 0 <= position < len(self._items)}
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
        self._items = items
        self.props.update({"count": len(items), "first": self._described(0, _FIRST)})
        self.props["version"] += 1
        self.choose(())

    def _described(self, low: int, high: int) -> list[dict[str, str]]:
        images = map(self._image, self._items[low : min(high, low + _MOST)])
        return [
            {"src": rooted(image.src), "caption": safe(image.caption, _CAPTION),
             "alt": safe(image.alt) + (f", {image.mark}" if image.mark else ""), "mark": image.mark}
            for image in images
        ]  # fmt: skip

    def _send(self, event: events.GenericEventArguments) -> None:
        if event.args.get("version") == self.props["version"]:
            low = self._position(event.args["low"])
            self.run_method("take", low, self._described(low, int(event.args["high"])))

    async def _choose(self, event: events.GenericEventArguments) -> None:
        named = set(range(
            max(0, int(event.args["low"])), min(int(event.args["high"]), len(self._items))
        ))  # fmt: skip
        before = self._chosen
        self.choose({"toggle": before ^ named, "add": before | named}.get(event.args["how"], named))
        if self._on_choose:
            await finished(self._on_choose())

    def _position(self, value: Any) -> int:
        return max(0, min(int(value), len(self._items) - 1))
