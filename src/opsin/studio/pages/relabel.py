"""Other labels for a run's images."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.format import counted
from opsin.studio.datasets.corrections import RunCorrections
from opsin.studio.parts import layout
from opsin.studio.parts.gallery import GalleryImage, ImageGallery, Mark
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.runs.run_index import RunRow
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset
    from opsin.studio.datasets.decoded_dataset import DecodedDataset
    from opsin.studio.state import Studio


class Relabel:
    """What a run's images are labelled now, in every window, and how that is changed.

    Made by `open_relabel`; `bar` is shown once.

    Args:
        studio: What all windows share.
        row: The run.
        directory: Its files.

    Attributes:
        opened: The run's images.
        now: The label of each image that is another than the run was trained with, by row;
            ``None`` is left out.
    """

    opened: DecodedDataset
    _set: LibraryDataset
    _corrections: RunCorrections

    def __init__(self, studio: Studio, row: RunRow, directory: RunDirectory) -> None:
        self._studio, self._row, self._directory = studio, row, directory
        self.now: dict[int, str | None] = {}
        self._steps = (0, 0)
        self._chosen: list[int] = []
        self._plain: list[GalleryImage] = []
        self._gallery: ImageGallery | None = None
        self._redraw: Callable[[], None] | None = None

    async def open(self) -> None:
        """Open the run's images and the corrections of their set.

        Raises:
            OpsinError: They are gone, or have changed since.
        """
        self.opened = await self._studio.opened.of_run(self._row.id)
        opened = self._studio.opened
        self._set, self._corrections = await opened.corrections_of_run(self._row.id)
        self.now = await asyncio.to_thread(self._corrections.now)
        self._steps = await asyncio.to_thread(self._corrections.whole.steps)

    @property
    def classes(self) -> list[str]:
        """The classes that an image may be given."""
        return self._corrections.whole.classes

    def bar(self) -> None:
        """Show how many labels are others now, and what can be done with that; follow changes."""
        with ui.element("div").classes("op-actions"):
            self._words = ui.label("").props('role="status"')
            self._undo = layout.action("Undo", self._take_back)
            self._redo = layout.action("Redo", self._make_again)
            self._again = layout.action("Train again with corrections", self._train, primary=True)
            ui.link("All images of the dataset", f"/data/{self._set.id}")
        self._status = StatusLine()
        self._tell()
        self._studio.changed.subscribe(self._heard)

    def gallery(self, images: Sequence[GalleryImage], label: str) -> None:
        """Show images that can be chosen and given another class.

        Args:
            images: Their ids are the run's rows.
            label: What they are.
        """
        self._plain = list(images)
        choices = {place: safe(name, 60) for place, name in enumerate(self.classes)}
        with ui.element("div").classes("op-actions"):
            self._label = ui.select(choices, label="Class", with_input=True).classes("op-choice")
            self._label.props("dense options-dense")
            self._give = layout.action("Assign this class", self._give_class)
            self._leave = layout.action("Leave out", self._leave_out)
        self._gallery = ImageGallery(self._marked(), label, on_choose=self._choose)
        self._enable()

    def on_change(self, redraw: Callable[[], None]) -> None:
        """Call something whenever a label was changed, in whichever window."""
        self._redraw = redraw

    async def change(
        self, images: Sequence[int], label: str | None = None, *, undo: bool = False
    ) -> None:
        """Give images a class, leave them out (no class), or take that back."""
        corrections = self._corrections
        if undo:
            await self._do(lambda: corrections.take_back(images))
        else:
            await self._do(lambda: corrections.put(images, label))

    def _tell(self) -> None:
        number = len(self.now)
        labels = counted(number, "label differs", "labels differ")
        self._words.set_text(
            f"{labels} from those that this run was trained with."
            if number
            else "No label of this run's images was changed."
        )
        self._again.set_visibility(bool(number))
        # Both are kept with the set: they are here after a reload and a restart as well.
        self._undo.set_visibility(bool(self._steps[0]))
        self._redo.set_visibility(bool(self._steps[1]))

    def _marked(self) -> list[GalleryImage]:
        """Return the images, those that were corrected with what they are now."""
        found = []
        for each in self._plain:
            image = int(each.id)
            if image not in self.now:
                found.append(each)
                continue
            label = self.now[image]
            words = "left out" if label is None else label
            mark: Mark = "left out" if label is None else "corrected"
            found.append(replace(each, alt=f"{each.alt}, now {words}", caption=words, mark=mark))
        return found

    def _choose(self, ids: Sequence[str]) -> None:
        self._chosen = [int(each) for each in ids]
        self._enable()

    def _enable(self) -> None:
        for button in (self._give, self._leave):
            button.set_enabled(bool(self._chosen))

    async def _give_class(self) -> None:
        if isinstance(self._label.value, int):
            await self.change(self._chosen, self.classes[self._label.value])

    async def _leave_out(self) -> None:
        await self.change(self._chosen)

    async def _take_back(self) -> None:
        await self._do(self._corrections.whole.undo)

    async def _make_again(self) -> None:
        await self._do(self._corrections.whole.redo)

    async def _do(self, work: Callable[[], object]) -> None:
        with self._status.errors():
            await asyncio.to_thread(work)
            self._studio.changed.emit(f"set:{self._set.id}")

    async def _heard(self, topic: str) -> None:
        if topic != f"set:{self._set.id}":
            return
        self.now = await asyncio.to_thread(self._corrections.now)
        self._steps = await asyncio.to_thread(self._corrections.whole.steps)
        self._tell()
        if self._gallery is not None:
            self._gallery.show(self._marked())
        if self._redraw is not None:
            self._redraw()

    def _train(self) -> None:
        """Open the form of a training with the same settings and the corrected labels."""
        ui.navigate.to(f"/train?from={self._row.id}&labels={self._set.id}")


async def open_relabel(studio: Studio, row: RunRow, directory: RunDirectory) -> Relabel:
    """Open the run's images to be looked at and relabelled; see `Relabel`.

    Raises:
        OpsinError: They are gone, or have changed since.
    """
    relabel = Relabel(studio, row, directory)
    await relabel.open()
    return relabel
