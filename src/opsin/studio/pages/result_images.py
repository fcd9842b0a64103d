"""The photographs of a classifier's results: galleries, the large view, and better labels."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions, RunPredictions
from opsin.core.artifacts.run_report import Report, SuspectedLabel
from opsin.core.errors import MovedError, OpsinError
from opsin.studio.datasets.album import Album
from opsin.studio.datasets.corrections import RunCorrections
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.pages.confirmed_labels import ConfirmedLabels
from opsin.studio.pages.verdicts import confidence_of
from opsin.studio.runs.run_index import RunRow
from opsin.studio.threads import IMAGES
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.layout import Frame
from opsin.studio.ui.viewer import ImageViewer, ViewedImage, ViewerAction
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

# Classes that each have a key.
_KEYS: Final = "123456789"
# Images from which on a gallery scrolls by itself, and its height then.
_SEVERAL: Final = 18
_HEIGHT: Final = 440


class ResultImages:
    """A run's judged images with their answers, and what their labels are now.

    Args:
        studio: The state of all windows.
        row: The run.
        frame: Its undo bar offers to take changes back.
        report: The run's report.
    """

    opened: DecodedDataset
    answers: PartPredictions

    def __init__(self, studio: Studio, row: RunRow, frame: Frame, report: Report) -> None:
        self.row, self.report = row, report
        self._studio, self._frame = studio, frame
        self.suspects: list[SuspectedLabel] = []
        self._suspected = report.failures.suspects if report.failures else []
        self.names = [entry.name for entry in report.judged.classes]
        self.dataset_id = ""
        #: Why labels cannot be corrected, if they cannot.
        self.fixed = ""
        #: The class of each image whose label differs from training; ``None`` is left out.
        self.now: dict[int, str | None] = {}
        self._split = report.split
        self._corrections: RunCorrections | None = None
        self._confirmed: ConfirmedLabels | None = None
        self._album: Album | None = None
        self._positions: dict[int, int] = {}
        self._listeners: list[Callable[[], Awaitable[object] | object]] = []

    async def open(self, directory: RunDirectory) -> None:
        """Read the answers and open the images, or raise an `OpsinError`."""
        self.answers = (await IMAGES.run(RunPredictions.read, directory)).of(self._split)
        self.opened = await self._studio.opened.of_run(self.row.id)
        try:
            dataset, self._corrections = await self._studio.opened.corrections_of_run(self.row.id)
        except MovedError:
            raise
        except OpsinError as error:
            self.fixed = str(error)
        else:
            self.dataset_id = dataset.id
            await self._find_originals(self._corrections)
            folder = await asyncio.to_thread(self._studio.sets.folder, dataset.id)
            self._confirmed = ConfirmedLabels(folder)
            self._studio.changed.subscribe(self._heard)
        await self._read()

    async def _find_originals(self, corrections: RunCorrections) -> None:
        """Find the photographs' files, to show them as they were taken."""
        with contextlib.suppress(OpsinError):
            album = await self._studio.albums.open(self.dataset_id)

            def positions() -> dict[int, int]:
                if album.contents.files is None or not album.contents.tokens:
                    return {}  # its decoded images are all there is
                rows = enumerate(corrections.rows.tolist())
                return {image: album.at_row[row] for image, row in rows if row in album.at_row}

            self._album, self._positions = album, await IMAGES.run(positions)

    def address(self, image: int, *, large: bool = False) -> str:
        """Address of a photograph's thumbnail, or of its original form."""
        at = self._positions.get(image)
        if at is None or self._album is None:
            return self.opened.address(image)
        return self._album.address(at, large=large)

    def on_change(self, handler: Callable[[], Awaitable[object] | object]) -> None:
        """Call a function when labels change, in whichever window."""
        self._listeners.append(handler)

    def mistakes(self, label: int | None = None) -> list[int]:
        """Places of wrong answers, the most confident first; of a class, or of all."""
        wrong = ~self.answers.right
        return self.answers.surest(
            wrong if label is None else wrong & (self.answers.labels == label)
        )

    def cell(self, label: int, answer: int) -> list[int]:
        """Places of the images of a class that got an answer."""
        answers = self.answers
        return answers.surest((answers.labels == label) & (answers.answers == answer))

    def gallery(self, label: str, places: Sequence[int]) -> None:
        """Show images; a click opens one large, with keys for its class."""
        viewer = self._viewer(places)

        def some(low: int, high: int) -> list[GalleryImage]:
            return [self._image(place) for place in places[low:high]]

        gallery = ImageGallery(
            label, some(0, 60), count=len(places), fetch=some, on_open=viewer.open,
            height=_HEIGHT if len(places) > _SEVERAL else 0,
        )  # fmt: skip

        def refresh() -> None:
            if not gallery.is_deleted:
                gallery.show(some(0, 60), len(places))

        self.on_change(refresh)

    async def relabel(self, image: int, label: str | None) -> None:
        """Give an image another class, or leave it out (``None``); undo is offered."""
        corrections = self._corrections
        if corrections is None:
            raise OpsinError("These labels cannot be changed here", self.fixed)
        if label is not None and label == self._trained(image):
            await asyncio.to_thread(corrections.take_back, [image])
        else:
            await asyncio.to_thread(corrections.put, [image], label)
        name = self.opened.name(image).rpartition("/")[2]
        words = "is left out" if label is None else f"is {safe(label, 40)} now"
        self._offer(f"{safe(name, 40)} {words}", corrections.whole.undo)
        await self._emit()

    async def confirm(self, suspect: SuspectedLabel) -> None:
        """Note that a suspected label is right; undo is offered."""
        confirmed = self._confirmed
        if confirmed is None:
            raise OpsinError("This cannot be kept here", self.fixed)
        pair = [(suspect.digest, suspect.label)]
        await asyncio.to_thread(confirmed.change, add=pair)
        name = safe(suspect.name.rpartition("/")[2], 40)
        self._offer(
            f"{name} stays {safe(suspect.label, 40)}", lambda: confirmed.change(remove=pair)
        )
        await self._emit()

    def picture(self, image: int, words: str) -> None:
        """Show one image with a line below it."""
        alt = f"{self.opened.name(image)}, {words}"
        result_picture(self.address(image), words, alt)

    async def _emit(self) -> None:
        """Read what is written, for what shows it next, and tell all windows."""
        await self._read()
        self._studio.changed.emit(f"set:{self.dataset_id}")

    def _offer(self, text: str, undo: Callable[[], object]) -> None:
        async def take_back() -> None:
            await asyncio.to_thread(undo)
            await self._emit()

        self._frame.undo.offer(text, take_back)

    def _trained(self, image: int) -> str:
        return self.opened.classes[self.opened.label(image)]

    async def _heard(self, topic: str) -> None:
        if topic == f"set:{self.dataset_id}":
            await self._read()
            for handler in self._listeners:
                result = handler()
                if asyncio.iscoroutine(result):
                    await result

    async def _read(self) -> None:
        confirmed: set[tuple[str, str]] = set()
        if self._corrections and self._confirmed:
            self.now = await asyncio.to_thread(self._corrections.now)
            confirmed = await asyncio.to_thread(self._confirmed.read)
        self.suspects = [
            suspect
            for suspect in self._suspected
            if suspect.row not in self.now and (suspect.digest, suspect.label) not in confirmed
        ]

    def _image(self, place: int) -> GalleryImage:
        image, answers = int(self.answers.rows[place]), self.answers
        label, answer = (self.names[int(a[place])] for a in (answers.labels, answers.answers))
        sure = confidence_of(float(answers.confidence[place]))
        alt = f"{self.opened.name(image)}, labelled {label}, answer {answer} {sure}"
        if image in self.now:
            now = self.now[image]
            mark, caption = ("corrected", f"now {now}") if now else ("left out", "left out")
            return GalleryImage(self.address(image), alt, caption, mark)  # type: ignore[arg-type]
        if answers.right[place]:
            return GalleryImage(self.address(image), alt, f"{answer} {sure}", "right")
        caption = f"{safe(label, 18)}, not {safe(answer, 18)}"
        return GalleryImage(self.address(image), alt, caption, "wrong")

    def _viewer(self, places: Sequence[int]) -> ImageViewer:
        def work(label: str | None) -> Callable[[int], Awaitable[object]]:
            return lambda at: self.relabel(int(self.answers.rows[places[at]]), label)

        async def ask(at: int) -> None:
            if label := await self._ask_class():
                await self.relabel(int(self.answers.rows[places[at]]), label)

        actions = []
        if not self.fixed:
            classes = self.opened.classes
            if len(classes) <= len(_KEYS):
                actions = [ViewerAction(safe(name, 24), key, work(name))
                           for name, key in zip(classes, _KEYS, strict=False)]  # fmt: skip
            else:
                actions = [ViewerAction("That label is wrong", "w", ask)]
            actions.append(ViewerAction("Leave out", "x", work(None)))
        return ImageViewer(lambda: len(places), lambda at: self._viewed(places[at]), actions)

    def _viewed(self, place: int) -> ViewedImage:
        image, answers = int(self.answers.rows[place]), self.answers
        probabilities = answers.probabilities[place]
        best = sorted(range(len(self.names)), key=lambda i: -probabilities[i])[:3]
        said = ", ".join(
            f"{safe(self.names[i], 40)} {confidence_of(float(probabilities[i]))}" for i in best
        )
        lines = [f"Answer: {said}", f"Label: {safe(self.names[int(answers.labels[place])], 60)}"]
        if image in self.now:
            now = self.now[image]
            lines.append(
                f"Corrected to {safe(now, 60)}." if now else "Left out of the next training."
            )
        elif not self.fixed:
            lines.append("If that label is wrong, choose the right class below.")
        return ViewedImage(
            self.address(image, large=True), f"{self.opened.name(image)}: {said}",
            self.opened.name(image), tuple(lines),
        )  # fmt: skip

    async def _ask_class(self) -> str | None:
        with ui.dialog() as dialog, ui.card().classes("stack").style("min-width: min(100%, 360px)"):
            dialog.props["aria-label"] = "Choose the right class"
            kit.heading("What is it?")
            names = {i: safe(name, 60) for i, name in enumerate(self.opened.classes)}
            choice = ui.select(names, label="Class", with_input=True)
            with ui.element("div").classes("line"):
                kit.action("Cancel", lambda: dialog.submit(None))
                kit.action("OK", lambda: dialog.submit(choice.value), kind="primary")
        chosen = await dialog
        dialog.delete()
        return self.opened.classes[chosen] if isinstance(chosen, int) else None


def result_picture(src: str, words: str, alt: str) -> None:
    """A picture of 160 pixels with a line below it."""
    with ui.element("figure").style("width: 160px"):
        shown = ui.image(src).props('fit="contain" no-transition')
        shown.props["alt"] = safe(alt)
        shown.style("width: 160px; height: 160px; border-radius: 8px; background: var(--panel)")
        with ui.element("figcaption").classes("note"):
            ui.label(safe(words, 60))
