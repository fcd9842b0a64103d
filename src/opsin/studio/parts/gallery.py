"""Images in rows, to see and choose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from nicegui import events
from nicegui.element import Element

from opsin.studio.words import safe

#: What is said of an image by a sign and a colour.
Mark = Literal["", "right", "wrong", "corrected", "left out"]

#: Side of the images in pixels of the page.
SIDE: Final = 84
# Characters of a caption: two lines below an image of the usual side.
_CAPTION: Final = 28

CSS: Final = """
.op-gallery { display: grid; grid-template-columns: repeat(auto-fill, calc(var(--side) + 16px));
  justify-content: start; gap: .5rem .35rem; list-style: none; margin: 0 0 1rem; padding: 0; }
.op-gallery li { min-width: 0; padding: 5px; border: 2px solid transparent; border-radius: .5rem;
  outline-offset: 0; }
.op-gallery li[role=option] { cursor: pointer; user-select: none; }
.op-gallery li[role=option]:hover { background: var(--panel); }
.op-gallery .op-gallery-frame { position: relative; display: block; line-height: 0; }
.op-gallery img { width: 100%; height: auto; aspect-ratio: 1; object-fit: contain;
  image-rendering: pixelated; background: var(--panel); border-radius: 2px; }
.op-gallery b { position: absolute; right: -4px; top: -4px; min-width: 1.15rem; height: 1.15rem;
  line-height: 1.1rem; text-align: center; border-radius: 1rem; font-size: .74rem;
  background: var(--ink); color: var(--paper); }
.op-gallery-caption { display: block; margin-top: 4px; font-size: .74rem; line-height: 1.25;
  overflow-wrap: anywhere; }
.op-gallery .op-mark-right img { outline: 2px solid var(--right); }
.op-gallery .op-mark-right b { background: var(--right); }
.op-gallery .op-mark-wrong img { outline: 2px solid var(--wrong); }
.op-gallery .op-mark-wrong b { background: var(--wrong); }
.op-gallery .op-mark-corrected img { outline: 2px solid #e69f00; }
.op-gallery .op-mark-corrected b { background: #e69f00; color: #1c2127; }
.op-gallery .op-mark-left-out img { opacity: .35; outline: 2px dashed var(--muted); }
.op-gallery .op-mark-left-out .op-gallery-caption { color: var(--muted); }
.op-gallery li.op-chosen { border-color: var(--accent); background: var(--right-soft); }
"""


@dataclass(frozen=True)
class GalleryImage:
    """An image as a gallery shows it.

    Args:
        id: What it is known by in this gallery.
        src: Its address, one of the studio's own.
        alt: What is on it, for those who cannot see it.
        caption: A few words below it; what is too long is shortened in the middle.
        mark: Whether it is ``right``, ``wrong``, ``corrected`` or ``left out``.

    Example:
        >>> GalleryImage("17", "/images/a1/17", "Ankle boot, test/17", "Ankle boot").mark
        ''
    """

    id: str
    src: str
    alt: str
    caption: str
    mark: Mark = ""


class ImageGallery(Element, component="gallery_old.js"):
    """A list of images, each enlarged without smoothing and fetched when it comes into sight.

    Where images can be chosen, a click or the space bar chooses one more or one less, with shift
    all from the last one to this one; arrows move, Ctrl-A chooses all, Escape none.

    Args:
        images: What is shown, each with an id of its own.
        label: What these images are, for those who cannot see them.
        chosen: Ids of those that are chosen at first.
        on_choose: Is given the ids of all that are chosen, in their order, whenever that changes;
            without it there is nothing to choose.
        multiple: Whether more than one can be chosen.
        side: Side of the images in pixels of the page.
    """

    def __init__(
        self,
        images: Sequence[GalleryImage],
        label: str,
        *,
        chosen: Collection[str] = (),
        on_choose: Callable[[list[str]], Awaitable[object] | object] | None = None,
        multiple: bool = True,
        side: int = SIDE,
    ) -> None:
        super().__init__()
        self._ids: list[str] = []
        self._props["label"] = safe(label)
        self._props["choosable"] = on_choose is not None
        self._props["multiple"] = multiple
        self._props["side"] = side
        self.show(images, chosen)
        if on_choose:
            tell = on_choose

            def choose(event: events.GenericEventArguments) -> Awaitable[object] | object:
                wanted = set(map(str, event.args)) if isinstance(event.args, list) else set()
                self._props["chosen"] = self._known(wanted)
                return tell(self.chosen)

            self.on("choose", choose)

    @property
    def chosen(self) -> list[str]:
        """Ids of the images that are chosen, in their order."""
        return list(self._props["chosen"])

    def show(self, images: Sequence[GalleryImage], chosen: Collection[str] | None = None) -> None:
        """Show other images, or the same with other words.

        Args:
            images: What is shown from now on.
            chosen: Ids of those that are chosen (default: those that are chosen already).
        """
        self._ids = [image.id for image in images]
        self._props["images"] = [_as_plain(image, self._props["side"]) for image in images]
        wanted = set(self._props.get("chosen", ()) if chosen is None else chosen)
        self._props["chosen"] = self._known(wanted)
        self.update()

    def choose(self, ids: Collection[str]) -> None:
        """Choose images from the server; ``on_choose`` is not called."""
        self._props["chosen"] = self._known(set(ids))
        self.update()

    def _known(self, wanted: set[str]) -> list[str]:
        return [each for each in self._ids if each in wanted]


def _as_plain(image: GalleryImage, side: int) -> dict[str, str]:
    """Return an image for the page; the keys are ours, whatever the values say."""
    said = f", {image.mark}" if image.mark else ""
    most = max(12, _CAPTION * side // SIDE)
    return {
        "id": image.id,
        "src": image.src,
        "alt": safe(image.alt) + said,
        "title": safe(image.alt) + said,
        "caption": safe(image.caption, most),
        "mark": image.mark,
    }
