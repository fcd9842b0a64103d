"""The photographs of a classifier's results: galleries, the large view, and better labels."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import numpy as np
from nicegui import ui
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions, RunPredictions
from opsin.core.artifacts.run_report import Report, SuspectedLabel
from opsin.core.errors import MovedError, OpsinError
from opsin.studio.context import Studio
from opsin.studio.datasets.album import Album
from opsin.studio.datasets.decoded_dataset import DecodedDataset
from opsin.studio.datasets.photo_files import settled_in
from opsin.studio.people import why_not
from opsin.studio.threads import IMAGES
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, ImageViewer
from opsin.studio.ui.kit import UndoBar
from opsin.studio.ui.maps import confidence_of
from opsin.studio.words import opaque, safe


class ResultImages:
    """A classifier's judged images with their answers, and what their labels are now."""

    opened: DecodedDataset
    answers: PartPredictions
    _places: NDArray[np.int64]  # of the images in the album, or -1

    def __init__(self, studio: Studio, run: RunDirectory, report: Report, undo: UndoBar) -> None:
        self._studio, self.run, self.report, self._undo = studio, run, report, undo
        self.names = [entry.name for entry in report.judged.classes]
        #: Why labels cannot be corrected, if they cannot.
        self.fixed = why_not("labeller") and "Only labellers and owners can correct labels here."
        #: The class of each image whose label differs from training; ``None`` is left out.
        self.now: dict[int, str | None] = {}
        #: Labels that may be wrong, and are not settled.
        self.suspects: list[SuspectedLabel] = []
        #: Called when labels change, in whichever window.
        self.listeners: list[Callable[[], object]] = []
        self._topic = ""
        self._album: Album | None = None

    async def open(self) -> None:
        """Read the answers and open the images, or raise an `OpsinError`."""
        self.answers = (await IMAGES.run(RunPredictions.read, self.run)).of(self.report.split)
        self.opened = await self._studio.albums.of_run(opaque(self.run.path.name))
        try:
            await self._read()
        except MovedError:
            raise
        except OpsinError as error:
            self.fixed = str(error)
        else:
            self._studio.changed.subscribe(self._refresh, self._topic)

    def _address(self, image: int, *, large: bool = False) -> str:
        if self._album is None or self._places[image] < 0:
            return self.opened.address(image)
        return self._album.address(int(self._places[image]), large=large)

    def gallery(self, title: str, places: Sequence[int]) -> None:
        """Show answers; a click opens one large, with keys for its class."""

        def relabel(place: int, label: str | None) -> Awaitable[None]:
            return self.relabel(int(self.answers.rows[place]), label)

        viewer = partial(
            ImageViewer,
            classes=() if self.fixed else self.opened.classes,
            relabel=None if self.fixed else relabel,
            remove="Leave out",
        )
        height = 440 if len(places) > 18 else 0
        gallery = ImageGallery(title, places, self._image, on_open=viewer, height=height)

        def refresh() -> None:
            if not gallery.is_deleted:
                gallery.show(places)

        self.listeners.append(refresh)

    def _image(self, place: int) -> GalleryImage:
        image, answers = int(self.answers.rows[place]), self.answers
        label, answer = (self.names[int(of[place])] for of in (answers.labels, answers.answers))
        probabilities = answers.probabilities[place]
        best = [
            f"{safe(self.names[i], 40)} {confidence_of(float(probabilities[i]))}"
            for i in (-probabilities).argsort(kind="stable")[:3]
        ]
        caption, mark = f"{safe(label, 18)}, not {safe(answer, 18)}", "wrong"
        more = "" if self.fixed else "If that label is wrong, choose the right class below."
        if answers.right[place]:
            caption, mark = best[0], "right"
        if image in self.now and (now := self.now[image]):
            caption, mark, more = f"now {now}", "corrected", f"Corrected to {safe(now, 60)}."
        elif image in self.now:
            caption, mark, more = "left out", "left out", "Left out of the next training."
        lines = (f"Answer: {', '.join(best)}", f"Label: {safe(label, 60)}", more)
        name, large = self.opened.decoded.names[image], self._address(image, large=True)
        alt = f"{name}, labelled {label}, answer {', '.join(best)}"
        return GalleryImage(self._address(image), alt, caption, mark, large, name, lines)  # type: ignore[arg-type]

    async def relabel(self, image: int, label: str | None) -> None:
        """Give an image another class, or leave it out (``None``); undo is offered."""
        albums, album = self._studio.albums, self._album
        if album is None or self._places[image] < 0:
            raise OpsinError("This label cannot be changed here", self.fixed)
        chosen = [int(self._places[image])]
        done = await albums.move(album, chosen, label or "")
        await self._read()
        undo = partial(albums.undo, album.dataset.id, done.when)
        self._undo.offer(done.text, undo, self._topic)

    async def confirm(self, suspect: SuspectedLabel) -> None:
        """Note that a suspected label is right; undo is offered."""
        settle = partial(self._studio.albums.settle, self._set, (suspect.digest, suspect.label))
        await settle()
        words = f"{safe(suspect.name.rpartition('/')[2], 40)} stays {safe(suspect.label, 40)}"
        await self._read()
        self._undo.offer(words, partial(settle, False), self._topic)

    def picture(self, image: int, words: str = "") -> None:
        """One image of 160 pixels with a line below it, by default its name."""
        words = words or self.opened.decoded.names[image].rpartition("/")[2]
        with ui.element("figure").style("width: 160px"):
            shown = ui.image(self._address(image)).props('fit="contain" no-transition')
            shown.props["alt"] = safe(f"{self.opened.decoded.names[image]}, {words}")
            shown.style("width: 160px; height: 160px; border-radius: 8px; background: var(--panel)")
            with ui.element("figcaption").classes("note"):
                ui.label(safe(words, 60))

    async def _refresh(self) -> None:
        with contextlib.suppress(OpsinError):  # new photographs are still being read
            await self._read()
        for listener in self.listeners:
            listener()

    async def _read(self) -> None:
        """Read what the labels are now, and which suspected ones are not settled."""
        failures = self.report.failures
        self.suspects = list(failures.suspects) if failures else []
        album, places = await self._studio.albums.album_of_run(opaque(self.run.path.name))
        self._set = album.dataset.id
        confirmed = await IMAGES.run(settled_in, self._studio.sets.folder(self._set))
        now = np.array([*album.classes, None], object)[album.labels[places]]  # -1 is left out
        trained = np.array(self.opened.classes, object)[self.opened.decoded.labels]
        changed = np.flatnonzero((now != trained) & (places >= 0))
        self.now = {image: now[image] for image in changed.tolist()}
        self._album, self._places = album, places
        self._topic = f"set:{self._set}"
        self.suspects = [
            suspect
            for suspect in self.suspects
            if suspect.row not in self.now and (suspect.digest, suspect.label) not in confirmed
        ]
