"""A training as it goes on: its card, and photographs as they are judged, or curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from nicegui import ui

from opsin.classical.classical_recipe import BACKBONE
from opsin.core.artifacts.records import Epoch, JudgedImages
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.data.split import VAL
from opsin.studio.jobs.job import Job
from opsin.studio.threads import IMAGES
from opsin.studio.ui.charts import CURVES, curve_series, curves_chart
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, Mark
from opsin.studio.ui.job_card import JobCard
from opsin.studio.ui.kit import note, question

if TYPE_CHECKING:
    from opsin.studio.context import Studio
    from opsin.studio.datasets.decoded_dataset import DecodedDataset

# Photographs of the strip.
_STRIP_MOST: Final = 120
_MARKS: Final[dict[bool | None, Mark]] = {True: "right", False: "wrong", None: ""}


class LiveTraining:
    """A running or waiting training."""

    def __init__(self, studio: Studio, job: Job) -> None:
        self._studio = studio
        self.card = JobCard(studio, job, linked=False)
        note("You can leave this page: the training goes on, and its results wait here.")
        self._strip = ui.element("div").classes("stack")
        self._curves = question("How is it going?", self._build_curves)
        self._curves.set_visibility(False)
        self._charts: dict[str, ui.echart] = {}
        self._values: dict[str, dict[str, list[float | None]]] = {
            title: {name: [] for name in fields} for title, fields in CURVES.items()
        }
        self._opened: DecodedDataset | None = None
        self._rows: list[int] = []
        self._judged: dict[int, bool] = {}
        self._has_pictures, self._is_updating = True, False

    async def update(self, job: Job) -> None:
        """Show the training as it is now."""
        self.card.show(job)
        row = self._studio.runs.find(job.run) if job.run else None
        if row is None or self._is_updating or self._strip.is_deleted:
            return
        self._is_updating = True  # changes come quicker than files are read
        directory = RunDirectory(self._studio.runs.root / row.folder)
        try:
            if row.in_steps:
                self._curves.set_visibility(True)
                await self._draw_curves(directory)
            elif row.model == BACKBONE and self._has_pictures:
                await self._show_judged(row.id, directory)
        except (OpsinError, OSError):  # unreadable now, or no pictures: the training goes on
            self._has_pictures = False
        finally:
            self._is_updating = False

    async def _show_judged(self, run_id: str, directory: RunDirectory) -> None:
        """Show photographs that turn blue or red as a head judges them that had not seen them."""
        if self._opened is None:
            opened = await self._studio.opened.of_run(run_id)
            if (opened.parts == VAL).any() or self._strip.is_deleted:
                self._has_pictures = False
                return
            spread = np.linspace(0, len(opened) - 1, min(_STRIP_MOST, len(opened)))
            self._opened, self._rows = opened, sorted({round(float(at)) for at in spread})
            with self._strip:
                self._text = note("Each photograph turns blue or red as soon as it is judged.")
                self._gallery = ImageGallery("Photographs, judged unseen", captions=False, side=64)
                self._show_strip(opened)
        if not (directory.path / JudgedImages.FILE).is_file():
            return
        said = await IMAGES.run(directory.read, JudgedImages)
        judged = dict(zip(said.rows, said.right, strict=False))
        if judged != self._judged and not self._strip.is_deleted:
            self._judged = judged
            self._show_strip(self._opened)
            self._text.set_text(
                f"{count(sum(judged.values()))} of {count(len(judged))} right so far, each judged "
                "by a classifier that had not seen it."
            )

    def _show_strip(self, opened: DecodedDataset) -> None:
        self._gallery.show([
            GalleryImage(opened.address(row), opened.classes[opened.label(row)],
                         mark=_MARKS[self._judged.get(row)])
            for row in self._rows
        ])  # fmt: skip

    def _build_curves(self) -> None:
        with ui.element("div").classes("columns"):
            self._charts = {title: curves_chart(self._values[title], title) for title in CURVES}

    async def _draw_curves(self, directory: RunDirectory) -> None:
        """Draw the epochs so far, if they are unfolded; what was zoomed stays so."""
        if not self._curves.value or not self._charts:
            return
        history = await IMAGES.run(directory.lines, Epoch)
        if len(history) <= len(self._values["Loss"]["Training"]) or self._curves.is_deleted:
            return
        for title, fields in CURVES.items():
            for name, field in fields.items():
                self._values[title][name][:] = [getattr(epoch, field) for epoch in history]
            self._charts[title].options["series"] = curve_series(self._values[title])
            self._charts[title].update()
