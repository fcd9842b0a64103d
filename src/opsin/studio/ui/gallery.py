"""Galleries of any number of images, of which only those in sight are loaded."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from nicegui import events
from nicegui.element import Element

from opsin.studio.ui.kit import rooted
from opsin.studio.words import safe

#: What is marked on an image by a sign and a colour.
Mark = Literal["", "right", "wrong", "corrected", "left out"]
Fetch = Callable[[int, int], "Awaitable[Sequence[GalleryImage]] | Sequence[GalleryImage]"]

#: Side of a thumbnail in pixels of the page.
SIDE: Final = 160
# Images that are sent with the page, and at most by one request.
_FIRST: Final = 60
_MOST: Final = 600
_CAPTION: Final = 44


@dataclass(frozen=True)
class GalleryImage:
    """An image of a gallery: its address, text for those who cannot see it, caption and mark."""

    src: str
    alt: str
    caption: str = ""
    mark: Mark = ""


class ImageGallery(Element, component="gallery.js"):
    """Images in rows, chosen by click, range and keyboard, and opened by a click.

    Positions count from 0 in the order of the images.

    Args:
        label: What the images are, for those who cannot see them.
        images: The images; or none, and ``count`` and ``fetch`` give them as they come into sight.
        count: Number of all images.
        fetch: Returns the images of a range of positions, end excluded.
        on_choose: Is called whenever the choice, `chosen`, changes; without it none are chosen.
        on_open: Is called with the position of an image that is clicked.
        on_key: Is called with a letter, digit or ``Delete`` pressed on an image, and its position.
        draggable: Whether images can be dragged; those dragged are chosen.
        captions: Whether captions are shown.
        side: Side of the thumbnails in pixels.
        height: Height in pixels beyond which it scrolls by itself (default: with the page).
    """

    def __init__(
        self,
        label: str,
        images: Sequence[GalleryImage] = (),
        *,
        count: int | None = None,
        fetch: Fetch | None = None,
        on_choose: Callable[[], Awaitable[object] | object] | None = None,
        on_open: Callable[[int], Awaitable[object] | object] | None = None,
        on_key: Callable[[str, int], Awaitable[object] | object] | None = None,
        draggable: bool = False,
        captions: bool = True,
        side: int = SIDE,
        height: int = 0,
    ) -> None:
        super().__init__()
        self._chosen: set[int] = set()
        self._fetch: Fetch = fetch or (lambda low, high: self._images[low:high])
        self._images = list(images)
        self._on_choose = on_choose
        self.props.update({
            "label": safe(label), "count": len(images) if count is None else count, "version": 0,
            "first": _plain(images[:_FIRST]), "chosen": [], "choosable": on_choose is not None,
            "openable": on_open is not None, "draggable": draggable, "captions": captions,
            "side": side, "height": height,
        })  # fmt: skip
        self.on("need", self._send)
        self.on("choose", self._choose)
        if on_open:
            self.on("open", lambda event: on_open(self._position(event.args)))
        if on_key:
            self.on(
                "key",
                lambda event: on_key(str(event.args["key"]), self._position(event.args["at"])),
            )

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.props["count"])

    @property
    def chosen(self) -> list[int]:
        """Positions of the chosen images."""
        return sorted(self._chosen)

    def choose(self, positions: Iterable[int]) -> None:
        """Choose images; ``on_choose`` is not called."""
        self._chosen = {position for position in positions if 0 <= position < self.count}
        self.props["chosen"] = _ranges(self.chosen)
        self.update()

    def show(self, images: Sequence[GalleryImage] = (), count: int | None = None) -> None:
        """Show other images, or those that ``fetch`` now returns; what was chosen is not."""
        self._images = list(images)
        self.props["count"] = len(images) if count is None else count
        self.props["first"] = _plain(images[:_FIRST])
        self.props["version"] += 1
        self.choose(())

    async def _send(self, event: events.GenericEventArguments) -> None:
        low, high = self._position(event.args["low"]), int(event.args["high"])
        images = self._fetch(low, min(high, low + _MOST, self.count))
        if inspect.isawaitable(images):
            images = await images
        if not self.is_deleted and event.args.get("version") == self.props["version"]:
            self.run_method("take", low, _plain(images))

    async def _choose(self, event: events.GenericEventArguments) -> None:
        low, high = max(0, int(event.args["low"])), min(int(event.args["high"]), self.count)
        named = set(range(low, high))
        how = event.args.get("how")
        chosen = {"toggle": self._chosen ^ named, "add": self._chosen | named}.get(how, named)
        self.choose(chosen)
        if self._on_choose:
            result = self._on_choose()
            if inspect.isawaitable(result):
                await result

    def _position(self, value: Any) -> int:
        return max(0, min(int(value), self.count - 1))


def _ranges(positions: Sequence[int]) -> list[list[int]]:
    """Sorted positions as ranges, ends excluded."""
    ranges: list[list[int]] = []
    for position in positions:
        if ranges and ranges[-1][1] == position:
            ranges[-1][1] += 1
        else:
            ranges.append([position, position + 1])
    return ranges


def _plain(images: Sequence[GalleryImage]) -> list[dict[str, str]]:
    return [
        {
            "src": rooted(image.src),
            "alt": safe(image.alt) + (f", {image.mark}" if image.mark else ""),
            "caption": safe(image.caption, _CAPTION),
            "mark": image.mark,
        }
        for image in images
    ]
