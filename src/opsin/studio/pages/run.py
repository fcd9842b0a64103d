"""A run: training, report, mistakes, log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from nicegui import ui

from opsin.core.artifacts.records import IMPORTED, RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, RunError
from opsin.core.format import ago, clock, with_interval
from opsin.core.platform import command_line, interrupt
from opsin.data.run_images import recipe_of_run
from opsin.studio.jobs.job import Job, command
from opsin.studio.pages import live
from opsin.studio.pages.moved_images import tell_moved
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.runs.run_index import RunRow
from opsin.studio.state import Studio
from opsin.studio.ui.layout import address
from opsin.studio.words import safe

_TABS: Final = (("live", "Training"), ("report", "Results"), ("log", "Log"))


async def show(studio: Studio, *, run_id: str, tab: str = "", epoch: str = "") -> None:
    """Build it."""
    row, directory = await asyncio.to_thread(studio.runs.opened, run_id)
    with layout.page(studio, row.name, "/", guide="understand/evaluation.html") as retitle:
        head = _Head(studio, row, directory, retitle)
        reported = await asyncio.to_thread(directory.report.is_file)
        usual = "report" if reported and row.state != "running" else "live"
        here = tab if tab in dict(_TABS) else usual
        await tell_moved(directory)
        # What was imported without images has no figures, and a classifier all the same.
        imported = await asyncio.to_thread(
            lambda: directory.imported.is_file() and directory.classifier.is_file()
        )
        answers = reported or imported
        _tabs(row, here, reported=reported, answers=answers and row.state != "running")
        head.follow(here)
        if here == "live":
            await live.show(studio, row, directory, epoch=_number(epoch))
        elif here == "log":
            await live.show_log(studio, row, directory)
        else:
            project = await asyncio.to_thread(studio.projects.of_run, run_id)
            ui.navigate.to(address(project, "results", run=run_id))


PAGE = Page("/runs/{run_id}", show)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


def _tabs(row: RunRow, here: str, *, reported: bool, answers: bool) -> None:
    with ui.element("nav").classes("op-tabs").props('aria-label="Parts of this run"'):
        for key, word in _TABS:
            link = ui.link(word, f"/runs/{row.id}?tab={key}")
            if key == here:
                link.props('aria-current="page"')
        if reported and row.has_layers:
            ui.link("Inside", f"/runs/{row.id}/inside")
        if answers:
            ui.link("Try", f"/try?run={row.id}")


class _Head:
    """What stands above every tab: the state, what can be done, name and note.

    Args:
        studio: What all windows share.
        row: The run.
        directory: Its files.
        retitle: Gives the page another title.
    """

    def __init__(
        self, studio: Studio, row: RunRow, directory: RunDirectory, retitle: Callable[[str], None]
    ) -> None:
        self._studio, self._row, self._directory = studio, row, directory
        self._retitle = retitle
        self._tab = ""
        self._leaving = False
        self._shown = self._key()
        self._state()
        self._status = StatusLine()
        self._notes()
        studio.changed.subscribe(self._heard)

    def follow(self, tab: str) -> None:
        """Load the page anew where this tab gets other content when the training ends."""
        self._tab = tab

    def _job(self) -> Job | None:
        return self._studio.jobs.of_run(self._row.folder)

    def _key(self) -> tuple[object, ...]:
        job = self._job()
        row = self._row
        return (row.state, row.cause, row.name, row.note, job.state if job else None)

    def _heard(self, topic: str) -> None:
        if self._leaving or topic not in ("jobs", "runs", f"run:{self._row.id}"):
            return
        try:
            before, self._row = self._row, self._studio.runs.row(self._row.id)
        except OpsinError:
            ui.navigate.to("/")  # it was deleted in another window
            return
        if before.state == "running" and self._row.state != "running" and self._tab != "log":
            if self._tab == "live":
                ui.navigate.to(f"/runs/{self._row.id}")
            else:
                ui.navigate.reload()
            return
        key = self._key()
        if key != self._shown:
            self._shown = key
            self._state.refresh()
            if before.name != self._row.name:
                self._name.set_value(self._own_name())
                self._retitle(self._row.name)
            if before.note != self._row.note:
                self._note.set_value(self._row.note)

    @ui.refreshable_method
    def _state(self) -> None:
        row, job = self._row, self._job()
        words = [_in_words(row, job)]
        if row.source:
            words.append(safe(row.source, 80))
        if row.model:
            words.append(row.model)
        if row.accuracy is not None and row.state != "running":
            where = " (validation)" if row.split == "val" else ""
            words.append(f"accuracy {with_interval(row.accuracy, row.low, row.high)}{where}")
        if row.seconds is not None:
            words.append(f"trained for {clock(row.seconds)}")
        if row.started is not None:
            words.append(ago(row.started))
        with ui.element("p").props('role="status"').classes("op-run-state"):
            ui.label(" · ".join(words))
        if row.corrections and row.state != "running":
            with ui.element("p").classes("op-muted"):
                ui.label(f"{row.corrections}.")
        if row.note:
            with ui.element("p").classes("op-muted"):
                ui.label(safe(row.note, 600))
        if row.state in ("failed", "damaged") and row.cause:
            layout.error_line(f"{row.state.capitalize()}: {row.cause}")
        elif row.cause and row.state != "running" and not (job and job.state == "paused"):
            with ui.element("p").classes("op-muted"):
                ui.label(safe(row.cause, 400))
        with ui.element("div").classes("op-actions"):
            self._actions(job)

    def _actions(self, job: Job | None) -> None:
        row = self._row
        if row.state == "running":
            if job and job.active and row.in_steps:
                pause = layout.action("Pause", self._do(self._pause))
                pause.set_enabled(job.state == "running")
            stop = layout.action("Stop", self._do(self._stop))
            stop.set_enabled(job is None or job.state != "stopping")
            return
        unfinished = row.state in ("stopped", "failed") or (job and job.state == "paused")
        if job and job.active:
            # The run is whole; its process still has to go.
            ui.label("The process is stopping …").classes("op-muted")
            return
        if job and job.pending:
            ui.link("Waiting in the queue", "/queue")
        elif unfinished and row.in_steps:
            layout.action("Resume", self._do(self._resume), primary=True)
        if row.model != IMPORTED:
            ui.link("Train with these settings", f"/train?from={row.id}")
        layout.action("Delete", self._do(self._delete))

    def _do(self, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            with self._status.errors():
                await work()
            self._studio.changed.emit("jobs")

        return act

    async def _pause(self) -> None:
        job = self._job()
        if job:
            await asyncio.to_thread(self._studio.jobs.pause, job.id)

    async def _stop(self) -> None:
        job = self._job()
        if job and job.active:
            await asyncio.to_thread(self._studio.jobs.stop, job.id)
        else:
            await asyncio.to_thread(_interrupt, self._directory)

    async def _resume(self) -> None:
        jobs, job = self._studio.jobs, self._job()
        if job and not job.over:
            return  # another window was quicker
        await asyncio.to_thread(recipe_of_run, self._directory)  # or it is asked where they are
        if job:
            await asyncio.to_thread(jobs.resume, job.id)
        else:
            words = command("resume", self._directory.path)
            await asyncio.to_thread(jobs.add, "resume", self._row.name, words, run=self._row.folder)

    async def _delete(self) -> None:
        # This window goes where the run can be had back; others see that it is gone.
        self._leaving = True
        try:
            token = await asyncio.to_thread(self._studio.runs.delete, self._row.id)
        except OpsinError:
            self._leaving = False
            raise
        self._studio.opened.forget(self._row.id)
        self._studio.changed.emit("runs")
        ui.navigate.to(f"/?undo={token}")

    # Name and note.

    def _own_name(self) -> str:
        return "" if self._row.name == self._row.folder else self._row.name

    def _notes(self) -> None:
        with ui.expansion("Name and note").classes("op-more").props('header-class="op-muted"'):
            self._name = ui.input("Name", value=self._own_name()).classes("op-field")
            self._name.props("dense maxlength=200")
            self._name._props["placeholder"] = safe(self._row.folder)
            self._note = ui.textarea("Note", value=self._row.note).classes("op-field")
            self._note.props("dense autogrow maxlength=10000")
            for field in (self._name, self._note):
                field.on("blur", self._do(self._keep))
            self._name.on("keydown.enter", self._do(self._keep))

    async def _keep(self) -> None:
        name, note = str(self._name.value or ""), str(self._note.value or "")
        if (name, note) == (self._own_name(), self._row.note):
            return
        await asyncio.to_thread(lambda: self._directory.write_notes(name=name, note=note))
        await asyncio.to_thread(self._studio.runs.scan)
        self._studio.changed.emit("runs")


def _in_words(row: RunRow, job: Job | None) -> str:
    """Say where a run stands, as people call it."""
    if row.state == "running":
        asked = {"pausing": "Pausing", "stopping": "Stopping; it is evaluated next"}
        return asked.get(job.state if job else "", "Training")
    if job and job.state == "paused":
        return "Paused"
    if job and job.pending:
        return "Waiting"
    return {"done": "Done", "stopped": "Stopped"}.get(row.state, row.state.capitalize())


# Processes that were asked to stop, by run and number: a second Ctrl-C would break them off.
_ASKED: Final[set[tuple[Path, int]]] = set()
_ASKING: Final = threading.Lock()


def _interrupt(directory: RunDirectory) -> None:
    """Stop a training that was started elsewhere, as Ctrl-C does; once, whoever asks again.

    Raises:
        RunError: It is not being trained, or the process may not be signalled.
    """
    # Its lock, not a number in a file, says that the process lives.
    state, _ = directory.state()
    pid = directory.read(RunStatus).pid
    if state != "running" or not _works_on(pid, directory.path):
        raise RunError("The run's process is gone", "Load this page anew.")
    try:
        with _ASKING:
            if (directory.path, pid) not in _ASKED:
                interrupt(pid)
                _ASKED.add((directory.path, pid))
    except (ProcessLookupError, PermissionError) as error:
        message = f"The training's process {pid} cannot be signalled"
        raise RunError(message, "Stop it where it runs.") from error


def _works_on(pid: int, run_path: Path) -> bool:
    """Tell whether a process is one of Opsin's, where the system says so."""
    try:
        words = command_line(pid)
    except ProcessLookupError:
        return False
    # Where the words are hidden, the run's lock has said that a process works on it.
    return run_path.is_dir() if words is None else "opsin" in words or "python" in words
