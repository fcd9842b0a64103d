"""A training as it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from typing import TYPE_CHECKING

import psutil
from nicegui import ui

from opsin.core import platform
from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.records import IMPORTED, DatasetRecord, Epoch, EpochConfusion
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.core.format import file_size, with_interval
from opsin.studio.jobs.job import last_lines
from opsin.studio.parts import layout, terms
from opsin.studio.parts.live_curves import LiveCurves
from opsin.studio.parts.matrix import Matrix
from opsin.studio.parts.progress_bar import ProgressBar
from opsin.studio.runs.run_index import RunRow
from opsin.studio.words import progress_in_words, safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

# Lines of the log below the curves, and on its own tab.
_FEW, _MANY = 8, 500
# Characters of a line that are shown.
_LINE = 1_000


async def show(studio: Studio, row: RunRow, directory: RunDirectory, *, epoch: int | None) -> None:
    """Show bar, machine, curves, confusions by epoch and the log's end, and go on with them.

    Args:
        studio: What all windows share.
        row: The run.
        directory: Its files.
        epoch: Whose confusion matrix to begin with (default: the last one's).
    """
    page = _Live(studio, row, directory)
    await page.build(epoch)


class _Live:
    def __init__(self, studio: Studio, row: RunRow, directory: RunDirectory) -> None:
        self._studio, self._row, self._directory = studio, row, directory
        self._process: psutil.Process | None = None
        self._names: list[str] = []
        self._epochs: int | None = None
        self._slider: ui.slider | None = None

    async def build(self, epoch: int | None) -> None:
        """Show everything as it is, then follow."""
        self._work = ui.element("div").classes("op-follow")
        with self._work:
            self._line = ui.label("").classes("op-work")
            self._bar = ProgressBar(self._row.name)
            self._machine = ui.label("").classes("op-muted")
        self._epochs = await asyncio.to_thread(_epochs, self._directory)
        history, matrices = await asyncio.to_thread(self._read)
        self._curves: LiveCurves | None = None
        self._place = ui.element("div")
        self._matrix_place = ui.element("div")
        self._wanted = epoch
        self._draw(history, matrices)
        if not history and self._row.state != "running" and self._row.model != IMPORTED:
            with self._place:
                layout.empty("No epoch was finished, so there are no curves.")
        with ui.element("h2"):
            ui.label("Log")
        self._log = ui.label("").classes("op-mono op-muted op-lines").props('tabindex="0"')
        await self._follow()
        self._studio.changed.subscribe(self._heard)

    def _read(self) -> tuple[list[Epoch], list[EpochConfusion]]:
        if not self._names:
            self._names = _recipe_classes(self._directory)
        with contextlib.suppress(RunError):  # unreadable now, maybe not the next time
            return self._directory.lines(Epoch), self._directory.lines(EpochConfusion)
        return [], []

    def _draw(self, history: list[Epoch], matrices: list[EpochConfusion]) -> None:
        if not self._row.in_steps or (not history and self._row.state != "running"):
            if (
                not self._row.in_steps
                and self._curves is None
                and not self._place.default_slot.children
            ):
                how = "is fitted in one step"
                if self._row.model == IMPORTED:
                    how = "was trained elsewhere"
                with self._place, ui.element("p").classes("op-muted"):
                    ui.label(f"This model {how}, so there are no curves.")
            return
        if self._curves is None:
            with self._place:
                self._curves = LiveCurves(history, self._epochs)
        else:
            self._curves.show(history, self._epochs)
        self._draw_matrix(history, matrices)

    def _draw_matrix(self, history: list[Epoch], matrices: list[EpochConfusion]) -> None:
        """Show the confusions of an epoch; the slider stays at the end if it was there."""
        self._matrices = {each.epoch: each.confusion for each in matrices}
        self._accuracy = {each.epoch: each.val_accuracy for each in history}
        if not self._matrices:
            return
        first, last = min(self._matrices), max(self._matrices)
        if self._slider is None:
            with self._matrix_place:
                self._build_matrix(first, last)
            return
        at_end = self._slider.value == self._slider._props["max"]
        self._slider._props["min"], self._slider._props["max"] = first, last
        self._slider.update()
        if at_end or not first <= self._slider.value <= last:
            self._slider.set_value(last)

    def _build_matrix(self, first: int, last: int) -> None:
        start = last if self._wanted not in self._matrices else self._wanted or last
        with ui.element("h2"):
            terms.word("Confusion matrix")
        self._epoch_line = ui.label("")
        self._slider = ui.slider(min=first, max=last, step=1, value=start).classes("op-slider")
        self._slider.props('aria-label="Epoch" snap')
        classes = self._classes()
        self._matrix = Matrix(self._matrices[start], classes)
        self._slider.on_value_change(lambda event: self._to_epoch(int(event.value)))
        self._tell_epoch(start)

    def _classes(self) -> list[str]:
        size = len(next(iter(self._matrices.values())))
        return self._names if len(self._names) == size else [str(place) for place in range(size)]

    def _to_epoch(self, epoch: int) -> None:
        nearest = min(self._matrices, key=lambda each: abs(each - epoch))
        self._matrix.show(self._matrices[nearest])
        self._tell_epoch(nearest)
        # So that the address can be kept, and the way back stays as it was.
        ui.run_javascript(
            f"history.replaceState(history.state, '', '?tab=live&epoch={int(nearest)}')"
        )

    def _tell_epoch(self, epoch: int) -> None:
        accuracy = self._accuracy.get(epoch)
        known = accuracy is not None and math.isfinite(accuracy)
        said = f", accuracy {with_interval(accuracy)}" if known else ""
        self._epoch_line.set_text(f"Epoch {epoch}, on the validation images{said}")

    async def _heard(self, topic: str) -> None:
        if topic != f"run:{self._row.id}":
            return
        history, matrices = await asyncio.to_thread(self._read)
        self._draw(history, matrices)
        await self._follow()

    async def _follow(self) -> None:
        now = self._studio.runs.row(self._row.id).progress
        self._work.set_visibility(now is not None)
        lines = await asyncio.to_thread(last_lines, self._directory.log, _FEW)
        self._log.set_text("\n".join(log_line(line) for line in lines))
        if now is None:
            return
        self._line.set_text(progress_in_words(now, full=True))
        self._bar.show(now.share)
        self._machine.set_text(await asyncio.to_thread(self._measure, now.pid))

    def _measure(self, pid: int) -> str:
        """Say what the training takes of the machine; called in a thread."""
        words = []
        with contextlib.suppress(psutil.Error):  # it may have ended
            if self._process is None or self._process.pid != pid:
                self._process = psutil.Process(pid)
                self._process.cpu_percent()  # counts from here on
            else:
                cores = self._process.cpu_percent() / 100
                words.append(f"{cores:.1f} of {platform.cores()} cores")
            words.append(f"{file_size(self._process.memory_info().rss)} of memory")
        memory = psutil.virtual_memory()
        words.append(f"{file_size(memory.available)} of {file_size(memory.total)} free")
        return safe(" · ".join(words), 400)


async def show_log(studio: Studio, row: RunRow, directory: RunDirectory) -> None:
    """Show the end of the run's log, and go on with it."""
    log = ui.label("").classes("op-mono op-lines").props('tabindex="0"')
    none = layout.empty("No messages yet.")

    async def tell(topic: str = "") -> None:
        if topic in ("", f"run:{row.id}"):
            lines = await asyncio.to_thread(last_lines, directory.log, _MANY)
            log.set_text("\n".join(log_line(line) for line in lines))
            none.set_visibility(not lines)

    await tell()
    studio.changed.subscribe(tell)


def log_line(text: str) -> str:
    """Return a log's line with its columns as they are, and nothing in it that could do harm.

    Example:
        >>> log_line("Data      digits")
        'Data      digits'
    """
    parts = re.split("( +)", text[:_LINE])
    return "".join(part if part.isspace() else safe(part) for part in parts)


def _epochs(directory: RunDirectory) -> int | None:
    """Return how many epochs were asked for; ``None`` where the file is damaged."""
    try:
        return directory.read(RecordedRecipe).training.epochs
    except (RunError, OSError):
        return None


def _recipe_classes(directory: RunDirectory) -> list[str]:
    """Return the names of the classes; none where the file is damaged."""
    try:
        return directory.read(DatasetRecord).classes
    except (RunError, OSError):
        return []
