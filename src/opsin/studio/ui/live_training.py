"""A training as it goes on: one bar, one time left, and photographs as they are judged."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import psutil
from nicegui import ui

from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.records import Epoch, JudgedImages
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError
from opsin.core.format import count, file_size
from opsin.core.platform import cores
from opsin.data.split import VAL
from opsin.studio.jobs.job import Job, last_lines
from opsin.studio.threads import IMAGES
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, Mark
from opsin.studio.ui.kit import StatusLine, action, facts, note, question
from opsin.studio.ui.training_curves import TrainingCurves
from opsin.studio.ui.viewer import ImageViewer, ViewedImage
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.core.artifacts.records import RunStatus
    from opsin.studio.datasets.decoded_dataset import DecodedDataset
    from opsin.studio.runs.run_index import RunRow
    from opsin.studio.state import Studio

# Photographs of the strip, and lines of the log.
_STRIP_MOST: Final = 120
_LINES: Final = 100
_LINE_MOST: Final = 1_000


class LiveTraining:
    """A running or waiting training, kept up to date by `update`.

    Args:
        studio: The state of all windows.
        job: The training.
        stop: Stops a training that was started elsewhere.
    """

    def __init__(self, studio: Studio, job: Job, stop: Callable[[Job], object]) -> None:
        self._studio, self.job, self._stop = studio, job, stop
        self._offers: tuple[str, ...] = ()
        self._is_updating = False
        with ui.element("section").classes("stack") as self.element:
            with ui.element("div").classes("card stack"):
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
            self._strip = JudgedStrip(studio)
            self._details = TrainingDetails(studio)
        self._show()

    async def update(self, job: Job) -> None:
        """Show the training as it is now."""
        self.job = job
        self._show()
        row = self._studio.runs.find(job.run) if job.run else None
        if row is None or self._is_updating or self.element.is_deleted:
            return
        self._is_updating = True  # changes come quicker than files are read
        try:
            await self._strip.update(row)
            await self._details.update(row)
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
        self._offer(progress.phase)

    def _offer(self, phase: str) -> None:
        jobs, id_ = self._studio.jobs, self.job.id
        keeps = phase == "epochs"
        work: dict[str, Callable[[], object]] = {}
        if not self.job.argv:  # started elsewhere
            work["Stop"] = lambda: self._stop(self.job)
        elif self.job.state == "running":
            work["Stop and keep the best so far" if keeps else "Stop"] = lambda: jobs.stop(id_)
            if keeps:
                work["Pause"] = lambda: jobs.pause(id_)
        elif self.job.active:
            work["Stop at once"] = lambda: jobs.stop_at_once(id_)
        else:
            work["Do not train"] = lambda: jobs.remove(id_)
        if tuple(work) != self._offers:
            self._offers = tuple(work)
            self._buttons.clear()
            with self._buttons:
                for text, ask in work.items():
                    action(text, lambda ask=ask: self._do(ask), needs="owner")

    async def _do(self, ask: Callable[[], object]) -> None:
        with self._status.errors():
            await asyncio.to_thread(ask)
        self._studio.changed.emit("jobs")


class JudgedStrip:
    """Photographs that turn blue or red as they are judged by a head that had not seen them."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._opened: DecodedDataset | None = None
        self._rows: list[int] = []
        self._judged: dict[int, bool] = {}
        self._gone = False  # whether there is nothing to show
        self.element = ui.element("div").classes("stack")

    async def update(self, row: RunRow) -> None:
        """Read what is judged so far, and show it."""
        if self._gone or row.model != "backbone":
            return
        try:
            if self._opened is None:
                await self._open(row)
            judged = await IMAGES.run(self._read, row)
        except OpsinError:  # no pictures at hand: the training goes on
            self._gone = True
            return
        if judged != self._judged and not self.element.is_deleted and not self._gone:
            self._judged = judged
            self._gallery.show(self._images())
            right = sum(judged.values())
            self._text.set_text(
                f"{count(right)} of {count(len(judged))} right so far, each judged by a classifier "
                "that had not seen it."
            )

    async def _open(self, row: RunRow) -> None:
        opened = await self._studio.opened.of_run(row.id)
        if (opened.parts == VAL).any() or self.element.is_deleted:
            self._gone = True
            return
        self._opened = opened
        places = np.linspace(0, len(opened) - 1, min(_STRIP_MOST, len(opened)))
        self._rows = sorted({round(float(row)) for row in places})
        with self.element:
            self._text = note("Each photograph turns blue or red as soon as it is judged.")
            viewer = ImageViewer(lambda: len(self._rows), self._describe)
            self._gallery = ImageGallery(
                "Photographs, judged unseen", self._images(), captions=False, side=64,
                on_open=viewer.open,
            )  # fmt: skip

    def _read(self, row: RunRow) -> dict[int, bool]:
        directory = RunDirectory(self._studio.runs.root / row.folder)
        if not (directory.path / JudgedImages.FILE).is_file():
            return {}
        judged = directory.read(JudgedImages)
        return dict(zip(judged.rows, judged.right, strict=False))

    def _images(self) -> list[GalleryImage]:
        assert self._opened is not None
        marks: dict[bool | None, Mark] = {True: "right", False: "wrong", None: ""}
        return [
            GalleryImage(
                self._opened.address(row), self._class_of(row), mark=marks[self._judged.get(row)]
            )
            for row in self._rows
        ]

    def _class_of(self, row: int) -> str:
        assert self._opened is not None
        return self._opened.classes[self._opened.label(row)]

    def _describe(self, position: int) -> ViewedImage:
        assert self._opened is not None
        row = self._rows[position]
        words = {True: "right", False: "wrong", None: "not judged yet"}[self._judged.get(row)]
        title = f"{self._class_of(row)}: {words}"
        return ViewedImage(self._opened.address(row), title, title, (self._opened.name(row),))


class TrainingDetails:
    """Curves, speed and log of a training, folded under a question."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._row: RunRow | None = None
        self._curves: TrainingCurves | None = None
        self._process: psutil.Process | None = None
        self._fold = question("How is it going?", self._build)
        self._fold.set_visibility(False)

    async def update(self, row: RunRow) -> None:
        """Show the training as it is now, if it is unfolded."""
        first = self._row is None
        self._row = row
        if first:
            self._fold.set_visibility(True)
        elif self._fold.value and self._built:
            await self._fill()

    @property
    def _built(self) -> bool:
        return hasattr(self, "_log")

    async def _build(self) -> None:
        self._facts = ui.element("div")
        self._curve_place = ui.element("div")
        with ui.expansion("Messages").classes("full-width"):
            self._log = ui.label().classes("mono").props('tabindex="0"')
        await self._fill()

    async def _fill(self) -> None:
        row = self._row
        if row is None or self._facts.is_deleted:
            return
        directory = RunDirectory(self._studio.runs.root / row.folder)
        history, epochs, lines = await IMAGES.run(_read, directory)
        status = row.progress
        machine = await IMAGES.run(self._measure, status.pid) if status else []
        self._facts.clear()
        with self._facts:
            facts([*_speed(status), *machine])
        self._log.set_text("\n".join(map(log_line, lines)) or "No messages yet.")
        if row.in_steps and self._curves is None:
            with self._curve_place:
                self._curves = TrainingCurves(history, epochs)
        elif self._curves is not None:
            self._curves.show(history, epochs)

    def _measure(self, pid: int) -> list[tuple[str, str]]:
        """What the training takes of the machine."""
        with contextlib.suppress(psutil.Error):  # it may have ended
            if self._process is None or self._process.pid != pid:
                self._process = psutil.Process(pid)
            busy = self._process.cpu_percent() / 100  # 0 the first time
            memory = file_size(self._process.memory_info().rss)
            free = file_size(psutil.virtual_memory().available)
            cores_busy = [("Processor", f"{busy:.1f} of {cores()} cores")] if busy else []
            return [*cores_busy, ("Memory", f"{memory}, {free} free")]
        return []


def _read(directory: RunDirectory) -> tuple[list[Epoch], int | None, Sequence[str]]:
    """The epochs so far, how many there will be, and the end of the log."""
    epochs, history = None, []
    with contextlib.suppress(OpsinError, OSError):  # unreadable now, maybe not the next time
        history = directory.lines(Epoch)
        epochs = directory.read(RecordedRecipe).training.epochs
    return history, epochs, last_lines(directory.log, _LINES)


def _speed(status: RunStatus | None) -> list[tuple[str, str]]:
    if status is None or not status.total:
        return []
    unit = safe(status.unit, 30)
    speed = [("Speed", f"{count(status.speed)} {unit} a second")] if status.speed else []
    return [("Now", f"{count(status.done)} of {count(status.total)} {unit}".strip()), *speed]


def log_line(text: str) -> str:
    """A line of a log, its columns kept, without anything that could do harm."""
    parts = re.split("( +)", text[:_LINE_MOST])
    return "".join(part if part.isspace() else safe(part) for part in parts)
