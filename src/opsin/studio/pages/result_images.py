"""The photographs of a classifier's results: galleries, the large view, and better labels."""

from __future__ import annotations

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
from opsin.studio.people import why_not
from opsin.studio.runs.run_index import RunRow
from opsin.studio.threads import IMAGES
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.layout import Frame
from opsin.studio.ui.viewer import ImageViewer
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.context import Studio

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
        self.names = [entry.name for entry in report.judged.classes]
        self.dataset_id = ""
        #: Why labels cannot be corrected, if they cannot.
        self.fixed = why_not("labeller")
        #: The class of each image whose label differs from training; ``None`` is left out.
        self.now: dict[int, str | None] = {}
        self._corrections: RunCorrections | None = None
        self._confirmed: ConfirmedLabels | None = None
        self._album: Album | None = None
        self._positions: dict[int, int] = {}
        self._listeners: list[Callable[[], object]] = []

    async def open(self, directory: RunDirectory) -> None:
        """Read the answers and open the images, or raise an `OpsinError`."""
        answers = await IMAGES.run(RunPredictions.read, directory)
        self.answers = answers.of(self.report.split)
        self.opened = await self._studio.opened.of_run(self.row.id)
        try:
            dataset, self._corrections = await self._studio.opened.corrections_of_run(self.row.id)
        except MovedError:
            raise
        except OpsinError as error:
            self.fixed = str(error)
        else:
            self.dataset_id = dataset.id
            self._confirmed = ConfirmedLabels(
                await IMAGES.run(self._studio.sets.folder, dataset.id)
            )
            await self._find_originals(self._corrections)
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

    def on_change(self, handler: Callable[[], object]) -> None:
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

        def relabel(at: int, label: str | None) -> Awaitable[None]:
            return self.relabel(int(self.answers.rows[places[at]]), label)

        viewer = ImageViewer(
            lambda: len(places), lambda at: self._viewed(places[at]),
            () if self.fixed else self.opened.classes, None if self.fixed else relabel,
            remove="Leave out",
        )  # fmt: skip
        gallery = ImageGallery(
            label, places, self._image, on_open=viewer.open,
            height=_HEIGHT if len(places) > _SEVERAL else 0,
        )  # fmt: skip

        def refresh() -> None:
            if not gallery.is_deleted:
                gallery.show(places)

        self.on_change(refresh)

    async def relabel(self, image: int, label: str | None) -> None:
        """Give an image another class, or leave it out (``None``); undo is offered."""
        before = self.now.get(image, self.opened.classes[self.opened.label(image)])
        await self._write(image, label)
        name = safe(self.opened.name(image).rpartition("/")[2], 40)
        words = "is left out" if label is None else f"is {safe(label, 40)} now"
        self._frame.undo.offer(f"{name} {words}", lambda: self._write(image, before))

    async def _write(self, image: int, label: str | None) -> None:
        corrections = self._corrections
        if corrections is None:
            raise OpsinError("These labels cannot be changed here", self.fixed)
        if label == self.opened.classes[self.opened.label(image)]:
            await IMAGES.run(corrections.take_back, [image])
        else:
            await IMAGES.run(corrections.put, [image], label)
        await self._emit()

    async def confirm(self, suspect: SuspectedLabel) -> None:
        """Note that a suspected label is right; undo is offered."""
        confirmed = self._confirmed
        if confirmed is None:
            raise OpsinError("This cannot be kept here", self.fixed)
        pair = [(suspect.digest, suspect.label)]

        async def take_back() -> None:
            await IMAGES.run(lambda: confirmed.change(remove=pair))
            await self._emit()

        await IMAGES.run(lambda: confirmed.change(add=pair))
        name = safe(suspect.name.rpartition("/")[2], 40)
        self._frame.undo.offer(f"{name} stays {safe(suspect.label, 40)}", take_back)
        await self._emit()

    def picture(self, image: int, words: str) -> None:
        """Show one image with a line below it."""
        result_picture(self.address(image), words, f"{self.opened.name(image)}, {words}")

    async def _emit(self) -> None:
        """Read what is written, for what shows it next, and tell all windows."""
        await self._read()
        self._studio.changed.emit(f"set:{self.dataset_id}")

    async def _heard(self, topic: str) -> None:
        if topic == f"set:{self.dataset_id}":
            await self._read()
            for handler in self._listeners:
                handler()

    async def _read(self) -> None:
        confirmed: set[tuple[str, str]] = set()
        if self._corrections and self._confirmed:
            self.now = await IMAGES.run(self._corrections.now)
            confirmed = await IMAGES.run(self._confirmed.read)
        failures = self.report.failures
        self.suspects = [
            suspect
            for suspect in (failures.suspects if failures else ())
            if suspect.row not in self.now and (suspect.digest, suspect.label) not in confirmed
        ]

    def _image(self, place: int) -> GalleryImage:
        image, answers = int(self.answers.rows[place]), self.answers
        label, answer = (self.names[int(a[place])] for a in (answers.labels, answers.answers))
        sure = confidence_of(float(answers.confidence[place]))
        alt = f"{self.opened.name(image)}, labelled {label}, answer {answer} {sure}"
        if image in self.now and (now := self.now[image]):
            return GalleryImage(self.address(image), alt, f"now {now}", "corrected")
        if image in self.now:
            return GalleryImage(self.address(image), alt, "left out", "left out")
        if answers.right[place]:
            return GalleryImage(self.address(image), alt, f"{answer} {sure}", "right")
        caption = f"{safe(label, 18)}, not {safe(answer, 18)}"
        return GalleryImage(self.address(image), alt, caption, "wrong")

    def _viewed(self, place: int) -> GalleryImage:
        image, answers = int(self.answers.rows[place]), self.answers
        probabilities = answers.probabilities[place]
        best = sorted(range(len(self.names)), key=lambda i: -probabilities[i])[:3]
        answer = ", ".join(
            f"{safe(self.names[i], 40)} {confidence_of(float(probabilities[i]))}" for i in best
        )
        lines = [f"Answer: {answer}", f"Label: {safe(self.names[int(answers.labels[place])], 60)}"]
        if image in self.now:
            now = self.now[image]
            lines.append(
                f"Corrected to {safe(now, 60)}." if now else "Left out of the next training."
            )
        elif not self.fixed:
            lines.append("If that label is wrong, choose the right class below.")
        name = self.opened.name(image)
        address = self.address(image, large=True)
        return GalleryImage(address, f"{name}: {answer}", name, lines=tuple(lines))


def result_picture(src: str, words: str, alt: str) -> None:
    """A picture of 160 pixels with a line below it."""
    with ui.element("figure").style("width: 160px"):
        shown = ui.image(src).props('fit="contain" no-transition')
        shown.props["alt"] = safe(alt)
        shown.style("width: 160px; height: 160px; border-radius: 8px; background: var(--panel)")
        with ui.element("figcaption").classes("note"):
            ui.label(safe(words, 60))
