"""A training as it goes on: one bar, one time left, and photographs as they are judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from nicegui import ui

from opsin.core.artifacts.records import Epoch, JudgedImages
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.data.split import VAL
from opsin.studio.jobs.job import Job
from opsin.studio.threads import IMAGES
from opsin.studio.ui.charts import CURVES, curve_series, curves_chart
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, Mark
from opsin.studio.ui.kit import StatusLine, action, note, question
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.context import Studio
    from opsin.studio.datasets.decoded_dataset import DecodedDataset
    from opsin.studio.runs.run_index import RunRow

# Photographs of the strip.
_STRIP_MOST: Final = 120
_MARKS: Final[dict[bool | None, Mark]] = {True: "right", False: "wrong", None: ""}


class LiveTraining:
    """A running or waiting training; ``stop`` stops it, if it was started elsewhere."""

    def __init__(self, studio: Studio, job: Job, stop: Callable[[], object]) -> None:
        self._studio, self.job, self._stop = studio, job, stop
        self._offered: list[str] = []
        self._is_updating = False
        with ui.element("div").classes("card stack") as self._card:
            with ui.element("div").classes("line"):
                self._step = ui.label().classes("step col")
                self._left = ui.label().classes("step")
            self._bar = ui.linear_progress(0, show_value=False, size="12px", color=None)
            self._bar.props("instant-feedback rounded")
            self._bar.props["aria-label"] = f"Progress of {safe(job.title, 80)}"
            with ui.element("div").classes("line"):
                self._buttons = ui.element("div").classes("line")
                self._hint = note("")
                self._status = StatusLine()
        self._strip = _JudgedStrip(studio)
        self._curves = _Curves(studio)
        self._show()

    async def update(self, job: Job) -> None:
        """Show the training as it is now."""
        self.job = job
        self._show()
        row = self._studio.runs.find(job.run) if job.run else None
        if row is None or self._is_updating or self._card.is_deleted:
            return
        self._is_updating = True  # changes come quicker than files are read
        try:
            await (self._curves if row.in_steps else self._strip).update(row)
        finally:
            self._is_updating = False

    def _show(self) -> None:
        progress = self._studio.progress.of(self.job)
        asked = {"stopping": "Stopping", "pausing": "Pausing: saving its state"}
        self._step.set_text(asked.get(self.job.state, progress.step))
        self._left.set_text("" if self.job.state in asked else progress.left_in_words)
        self._bar.props["indeterminate"] = progress.share is None and self.job.active
        self._bar.set_value(progress.share or 0.0)
        self._bar.update()
        hint = "You can leave this page: the training goes on, and its results wait here."
        if self.job.pending:
            hint = "It starts when the trainings before it have ended."
            if self._studio.jobs.paused:
                hint = "The queue is paused. Resume it under More, Jobs."
        self._hint.set_text(hint)
        work = self._work(keeps=progress.phase == "epochs")
        if list(work) != self._offered:
            self._offered = list(work)
            self._buttons.clear()
            with self._buttons:
                for text, ask in work.items():
                    action(text, lambda ask=ask: self._do(ask), needs="owner")

    def _work(self, *, keeps: bool) -> dict[str, Callable[[], object]]:
        """What can be done, as the buttons say it; ``keeps`` if there is a best so far."""
        jobs, id_ = self._studio.jobs, self.job.id
        if not self.job.argv:  # started elsewhere
            return {"Stop": self._stop}
        if self.job.pending:
            return {"Do not train": lambda: jobs.remove(id_)}
        if self.job.state != "running":
            return {"Stop at once": lambda: jobs.stop_at_once(id_)}
        if not keeps:
            return {"Stop": lambda: jobs.stop(id_)}
        return {"Stop and keep the best so far": lambda: jobs.stop(id_),
                "Pause": lambda: jobs.pause(id_)}  # fmt: skip

    async def _do(self, ask: Callable[[], object]) -> None:
        with self._status.errors():
            await asyncio.to_thread(ask)
        self._studio.changed.emit("jobs")


class _JudgedStrip:
    """Photographs that turn blue or red as they are judged by a head that had not seen them."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._opened: DecodedDataset | None = None
        self._rows: list[int] = []
        self._judged: dict[int, bool] = {}
        self._is_off = False  # there is nothing to show
        self._content = ui.element("div").classes("stack")

    async def update(self, row: RunRow) -> None:
        """Read what is judged so far, and show it."""
        if self._is_off or row.model != "backbone":
            return
        try:
            if self._opened is None:
                await self._open(row)
            judged = await IMAGES.run(self._read, row)
        except OpsinError:  # no pictures at hand: the training goes on
            self._is_off = True
            return
        if judged != self._judged and not self._is_off and not self._content.is_deleted:
            self._judged = judged
            self._show()
            self._text.set_text(
                f"{count(sum(judged.values()))} of {count(len(judged))} right so far, each judged "
                "by a classifier that had not seen it."
            )

    async def _open(self, row: RunRow) -> None:
        opened = await self._studio.opened.of_run(row.id)
        self._is_off = bool((opened.parts == VAL).any()) or self._content.is_deleted
        if self._is_off:
            return
        self._opened = opened
        spread = np.linspace(0, len(opened) - 1, min(_STRIP_MOST, len(opened)))
        self._rows = sorted({round(float(at)) for at in spread})
        with self._content:
            self._text = note("Each photograph turns blue or red as soon as it is judged.")
            self._gallery = ImageGallery("Photographs, judged unseen", captions=False, side=64)
            self._show()

    def _read(self, row: RunRow) -> dict[int, bool]:
        directory = RunDirectory(self._studio.runs.root / row.folder)
        if not (directory.path / JudgedImages.FILE).is_file():
            return {}
        judged = directory.read(JudgedImages)
        return dict(zip(judged.rows, judged.right, strict=False))

    def _show(self) -> None:
        opened = self._opened
        assert opened is not None
        self._gallery.show([
            GalleryImage(
                opened.address(row), opened.classes[opened.label(row)],
                mark=_MARKS[self._judged.get(row)],
            )
            for row in self._rows
        ])  # fmt: skip


class _Curves:
    """Curves of a training by epochs, folded under a question."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._row: RunRow | None = None
        self._values: dict[str, dict[str, list[float | None]]] = {
            title: {name: [] for name in fields} for title, fields in CURVES.items()
        }
        self._charts: dict[str, ui.echart] = {}
        self._fold = question("How is it going?", self._build)
        self._fold.set_visibility(False)

    async def update(self, row: RunRow) -> None:
        """Draw the epochs so far, if it is unfolded; what was zoomed stays so."""
        self._row = row
        self._fold.set_visibility(True)
        if not self._fold.value or not self._charts:
            return
        history = await IMAGES.run(self._read)
        if len(history) <= len(self._values["Loss"]["Training"]) or self._fold.is_deleted:
            return
        for title, fields in CURVES.items():
            for name, field in fields.items():
                self._values[title][name][:] = [getattr(epoch, field) for epoch in history]
            drawn = self._charts[title]
            drawn.options["series"] = curve_series(self._values[title])
            drawn.update()

    async def _build(self) -> None:
        with ui.element("div").classes("columns"):
            self._charts = {title: curves_chart(self._values[title], title) for title in CURVES}
        if self._row is not None:
            await self.update(self._row)

    def _read(self) -> list[Epoch]:
        assert self._row is not None
        try:
            return RunDirectory(self._studio.runs.root / self._row.folder).lines(Epoch)
        except (OpsinError, OSError):  # unreadable now, maybe not the next time
            return []
