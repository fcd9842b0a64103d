"""A set's images, to choose and correct."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, counted
from opsin.studio.datasets.corrections import Corrections
from opsin.studio.datasets.decoded_dataset import PARTS, PER_PAGE, DecodedDataset, ImagePage
from opsin.studio.parts import layout
from opsin.studio.parts.gallery import GalleryImage, ImageGallery
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

#: What stands for a finding where the images that were corrected are wanted.
CORRECTED: Final = "corrected"
# Classes beyond which one is found by writing.
_MANY: Final = 12

CSS: Final = """
.op-set { display: grid; grid-template-columns: minmax(16rem, 23rem) minmax(0, 1fr); gap: 1.4rem;
  align-items: start; margin-top: 1rem; }
.op-picking-bar { position: sticky; top: 0; z-index: 2; background: var(--paper);
  border: 1px solid var(--line); border-radius: .7rem; padding: .5rem .8rem; margin: 0 0 1rem;
  display: flex; flex-wrap: wrap; gap: .4rem .6rem; align-items: center; }
.op-picking-bar .op-summary { flex: 1 1 100%; font-size: .92rem; }
.op-picking-bar .q-select { min-width: 9rem; flex: 1 1 9rem; }
.op-pager { display: flex; flex-wrap: wrap; gap: .2rem; align-items: center; margin: 0 0 1rem; }
.op-pager a, .op-pager span { padding: .2rem .6rem; border-radius: .4rem; text-decoration: none; }
.op-pager a:hover { background: var(--panel); }
.op-pager [aria-current] { background: var(--right-soft); color: var(--right); font-weight: 600; }
@media (max-width: 56rem) {
  .op-set { grid-template-columns: minmax(0, 1fr); }
  .op-set-filtered .op-set-images { order: -1; } }
"""


@dataclass(frozen=True)
class ImageFilter:
    """Which images of a set a page shows, as its address says.

    Args:
        set_id: Of the set.
        label: Their class.
        part: Their part.
        finding: A kind of finding, or ``corrected``.
        page: Number of the page, from 1.

    Example:
        >>> ImageFilter.of("0a", "3", "test", "", "2").address(page=3)
        '/data/0a?class=3&part=test&page=3'
    """

    set_id: str
    label: int | None = None
    part: str | None = None
    finding: str | None = None
    page: int = 1

    @classmethod
    def of(cls, set_id: str, label: str, part: str, finding: str, page: str) -> ImageFilter:
        """Read an address; what it cannot mean is passed over."""
        return cls(
            set_id,
            _number(label),
            part if part in PARTS.values() else None,
            finding[:40] or None,
            max(1, _number(page) or 1),
        )

    @property
    def filtered(self) -> bool:
        """Whether only some images are wanted."""
        return (self.label, self.part, self.finding) != (None, None, None)

    def address(self, **other: Any) -> str:
        """Return the address where something is otherwise; of another filter the first page."""
        new = replace(self, **({"page": 1} | other))
        said = (
            ("class", new.label),
            ("part", new.part),
            ("finding", new.finding),
            ("page", new.page if new.page > 1 else None),
        )
        query = urlencode([(name, value) for name, value in said if value is not None])
        return f"/data/{self.set_id}{'?' if query else ''}{query}"


class LabelEditor:
    """The images of a page, with what can be said about those that are chosen.

    Args:
        studio: What all windows share.
        opened: The set's images.
        corrections: What was said about them; ``None`` where that cannot be read.
        wanted: Which of them are shown.
    """

    def __init__(
        self,
        studio: Studio,
        opened: DecodedDataset,
        corrections: Corrections | None,
        wanted: ImageFilter,
    ) -> None:
        self.opened = opened
        self._studio, self._wanted = studio, wanted
        self._corrections = corrections
        self._now: dict[int, str | None] = {}
        self._labels = opened.decoded.labels
        self._steps = (0, 0)

    @property
    def chosen(self) -> list[str]:
        """Ids of the images that are chosen."""
        return self._gallery.chosen

    async def build(self) -> None:
        """Show them."""
        await self._read()
        page = self._page()
        with ui.element("h2"):
            self._heading = ui.label()
        self._tabs = ui.element("nav").classes("op-tabs").props('aria-label="Parts"')
        if self._corrections:
            self._bar()
        self._pager(page.total, "Pages of images")
        on_choose = (lambda _: self._enable()) if self._corrections else None
        self._gallery = ImageGallery(self._shown(page), "Images", on_choose=on_choose)
        self._nothing = ui.label("No image matches this filter.").classes("op-muted")
        self._pager(page.total, "Pages of images, below them")
        self._show(page)

    async def refresh(self) -> None:
        """Show what was corrected meanwhile, here or in another window."""
        await self._read()
        page = self._page()
        if not self._gallery.is_deleted:
            self._gallery.show(self._shown(page))
            self._show(page)

    async def _read(self) -> None:
        if self._corrections:
            self._now = await asyncio.to_thread(self._corrections.now)
            self._labels = await asyncio.to_thread(self._corrections.labels)
            self._steps = await asyncio.to_thread(self._corrections.steps)

    def _page(self) -> ImagePage:
        wanted = self._wanted
        corrected = wanted.finding == CORRECTED

        def page(number: int) -> ImagePage:
            return self.opened.rows(
                wanted.label,
                wanted.part,
                None if corrected else wanted.finding,
                number,
                among=sorted(self._now) if corrected else None,
                labels=self._labels,
            )

        found = page(wanted.page - 1)
        last = max(1, -(-found.total // PER_PAGE))
        return found if wanted.page <= last else page(last - 1)

    def _shown(self, page: ImagePage) -> list[GalleryImage]:
        return [self._image(row) for row in page.rows]

    def _image(self, row: int) -> GalleryImage:
        opened = self.opened
        class_, name = opened.classes[opened.label(row)], opened.name(row)
        of_one = self._wanted.label is not None
        caption = name.removeprefix(f"{class_}/") if of_one else class_
        alt = f"{class_}, {name}"
        finding = (opened.findings or {}).get(self._wanted.finding or "")
        if finding:
            note = finding.notes.get(row, "")
            # Of images with different labels, the note names the labels again.
            shown = "" if finding.kind == "conflicting-labels" else f": {note}"
            caption, alt = f"{safe(class_, 14)}{shown}", f"{alt}: {note}"
        if row not in self._now:
            return GalleryImage(str(row), opened.address(row), alt, caption)
        label = self._now[row]
        if label is None:
            return GalleryImage(str(row), opened.address(row), alt, class_, "left out")
        change = f"{safe(class_, 13)} → {safe(label, 13)}"
        alt = f"{name}, {class_}, now {label}"
        return GalleryImage(str(row), opened.address(row), alt, change, "corrected")

    def _filters(self) -> None:
        """Show links to the parts and to what was corrected."""
        wanted = self._wanted
        counts = self.opened.counts(self._labels)
        numbers = (
            counts.sum(axis=0)
            if wanted.label is None
            else counts[wanted.label : wanted.label + 1].sum(axis=0)
        )
        self._tabs.clear()
        with self._tabs:
            if wanted.finding is None:
                link = ui.link("All parts", wanted.address(part=None))
                _mark(link, wanted.part is None)
                for code, part in PARTS.items():
                    if code and numbers[code]:
                        link = ui.link(f"{part} {count(numbers[code])}", wanted.address(part=part))
                        _mark(link, wanted.part == part)
            else:
                ui.link("All images", wanted.address(label=None, part=None, finding=None))
            if self._now or wanted.finding == CORRECTED:
                address = wanted.address(label=None, part=None, finding=CORRECTED)
                link = ui.link(f"Corrected {count(len(self._now))}", address)
                _mark(link, wanted.finding == CORRECTED)

    def _bar(self) -> None:
        """Show what can be done with the images that are chosen."""
        names = {label: safe(name, 60) for label, name in enumerate(self.opened.classes)}
        with ui.element("div").classes("op-picking-bar").props('role="group"') as bar:
            bar._props["aria-label"] = "Correct the chosen images"
            self._line = ui.label().classes("op-summary").props('role="status"')
            self._class = ui.select(
                names, label="Class", with_input=len(names) > _MANY, on_change=self._enable
            ).props("dense outlined options-dense")
            self._relabel = layout.action("Relabel", self._put_class, primary=True)
            self._leave_out = layout.action("Leave out", lambda: self._do(self._put(None)))
            self._back = layout.action("Restore original", lambda: self._do(self._take_back()))
            self._undo = layout.action("Undo", lambda: self._do(self._known.undo))
            self._redo = layout.action("Redo", lambda: self._do(self._known.redo))
        self._status = StatusLine()
        self._lost = ui.element("div").classes("op-actions")

    def _show_missing(self) -> None:
        """Show corrections whose images are missing; training refuses those."""
        if not self._corrections:
            return
        known, gone = self._corrections, self._corrections.gone
        self._lost.clear()
        self._lost.set_visibility(bool(gone))
        with self._lost:
            if gone:
                layout.error_line(
                    f"{counted(gone, 'correction is', 'corrections are')} for missing images."
                )
                layout.action("Drop these", lambda: self._do(known.forget_gone))

    def _show(self, page: ImagePage) -> None:
        """Say how many there are and what was corrected."""
        wanted, opened = self._wanted, self.opened
        said = []
        if wanted.label is not None and wanted.label < len(opened.classes):
            said.append(safe(opened.classes[wanted.label], 60))
        finding = (opened.findings or {}).get(wanted.finding or "")
        if wanted.finding:
            said.append(safe(finding.title) if finding else "Corrected")
        if wanted.part:
            said.append(wanted.part)
        what = ", ".join(said) or "All images"
        number, moved = page.total, ""
        if wanted.label is not None and wanted.finding is None:
            at = [code for code, name in PARTS.items() if wanted.part in (None, name)]
            number = int(opened.counts(self._labels)[wanted.label, at].sum())
            changed = page.total - number
            moved = f", {count(changed)} moved away or left out" if changed else ""
        self._heading.set_text(f"{what} ({count(number)}{moved})")
        self._nothing.set_visibility(page.total == 0)
        self._filters()
        self._show_missing()
        self._enable()

    def _enable(self) -> None:
        """Let those buttons be pressed that would do something."""
        if not self._corrections:
            return
        chosen = [int(each) for each in self.chosen]
        self._relabel.set_enabled(bool(chosen) and self._class.value is not None)
        self._leave_out.set_enabled(any(self._now.get(row, "") is not None for row in chosen))
        self._back.set_enabled(any(row in self._now for row in chosen))
        self._undo.set_enabled(self._steps[0] > 0)
        self._redo.set_enabled(self._steps[1] > 0)
        out = sum(label is None for label in self._now.values())
        words = [f"{count(len(self._now) - out)} relabelled"] * (len(self._now) > out)
        words += [f"{count(out)} left out"] * bool(out)
        if chosen:
            self._line.set_text(f"{count(len(chosen))} chosen")
        elif words:
            self._line.set_text(
                f"{', '.join(words)}: used for training; the source files stay unchanged"
            )
        elif self._steps[1]:
            self._line.set_text(
                "Choose images to correct their class; Redo makes the last change again"
            )
        else:
            self._line.set_text(
                "Choose images to correct their class; the source files stay unchanged"
            )

    @property
    def _known(self) -> Corrections:
        """The corrections, where the bar is there."""
        if self._corrections is None:
            raise OpsinError("The corrections cannot be read", "Mend their file.")
        return self._corrections

    def _put(self, label: str | None) -> Callable[[], object]:
        rows = [int(each) for each in self.chosen]
        return lambda: self._known.put(rows, label)

    def _take_back(self) -> Callable[[], object]:
        rows = [int(each) for each in self.chosen]
        return lambda: self._known.take_back(rows)

    async def _put_class(self) -> None:
        label = self._class.value
        if isinstance(label, int):
            await self._do(self._put(self.opened.classes[label]))

    async def _do(self, work: Callable[[], object]) -> None:
        """Change something, and tell all windows."""
        with self._status.errors():
            await asyncio.to_thread(work)
            self._gallery.choose([])
            # This window hears it like all the others.
            self._studio.changed.emit(f"set:{self.opened.id}")

    def _pager(self, total: int, label: str) -> None:
        """Show links to the other pages; of two, each has its own label."""
        last = max(1, -(-total // PER_PAGE))
        if last == 1:
            return
        here = min(self._wanted.page, last)
        near = {1, last, *range(max(1, here - 2), min(last, here + 2) + 1)}
        with ui.element("nav").classes("op-pager").props(f'aria-label="{label}"'):
            if here > 1:
                ui.link("Previous", self._wanted.address(page=here - 1))
            before = 0
            for number in sorted(near):
                if number > before + 1:
                    ui.label("…")
                link = ui.link(count(number), self._wanted.address(page=number))
                _mark(link, number == here)
                before = number
            if here < last:
                ui.link("Next", self._wanted.address(page=here + 1))


def _mark(link: ui.link, here: bool) -> None:
    if here:
        link.props('aria-current="page"')


def _number(text: str) -> int | None:
    # More digits than there are images mean nothing, and int() takes its time for a million.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None
