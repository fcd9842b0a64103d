"""Home: all runs, the queue and the disk."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count, counted, file_size
from opsin.studio.jobs.job import Job, command
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout
from opsin.studio.parts.job_line import JobLine
from opsin.studio.parts.restorable import restorable
from opsin.studio.parts.runs_table import RunsTable
from opsin.studio.parts.runs_view import RunsView, total, view_of
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.parts.undo_button import Undo
from opsin.studio.state import Studio
from opsin.studio.trash import Removed
from opsin.studio.words import safe

#: A first training: a small network on a well-known dataset.
FIRST: Final = ("fashion-mnist", "--model", "cnn", "--epochs", "3")
# Jobs that the strip shows.
_STRIP: Final = 3


async def home(
    studio: Studio,
    *,
    q: str = "",
    state: str = "",
    sort: str = "",
    page: str = "",
    tick: str = "",
    undo: str = "",
) -> None:
    """Build it."""
    with layout.page(studio, "Runs", "/"):
        content = _Home(studio, view_of(q, state, sort, page, tick))
    if not studio.runs.scanned:
        await ui.context.client.connected()
        await asyncio.to_thread(studio.runs.scan)
    content.show()
    await content.tell_disk()
    content.offer_again(undo)


PAGE = Page("/", home, nav="Runs", order=10)


class _Home:
    """What stands on the first page, kept up to date in every window.

    Args:
        studio: What all windows share.
        view: Which runs are shown, by the address.
    """

    def __init__(self, studio: Studio, view: RunsView) -> None:
        self._studio, self._view = studio, view
        self._lines: dict[str, JobLine] = {}
        self._table: RunsTable | None = None
        self._deleted: list[Removed] | None = None
        self._asked = False
        with ui.element("p").classes("op-muted"):
            ui.link("Import a classifier from another program", "/import")
        self._first = ui.element("div")
        self._status = StatusLine()
        self._strip = layout.panel("Queue")
        with self._strip:
            self._jobs = ui.element("div").classes("op-jobs")
            self._more = ui.link("", "/queue").classes("op-muted")
        self._strip.set_visibility(False)
        self._body = ui.element("div")
        with self._body:
            self._wait = ui.label("Reading the runs …").classes("op-muted")
        self._disk = ui.label().classes("op-muted")
        self._gone = ui.element("div")
        self._undo = Undo()
        studio.changed.subscribe(self._news)

    def show(self) -> None:
        """Show the runs and the jobs as they are now."""
        rows = self._studio.runs.rows()
        jobs = [job for job in self._studio.jobs.jobs() if job.training]
        self._show_first(not rows and not jobs)
        self._show_jobs([job for job in jobs if not job.over])
        if self._table is None and rows:
            self._body.clear()
            with self._body:
                self._table = RunsTable(rows, self._view, self.delete)
        elif self._table is not None:
            self._table.show(rows)
        else:
            self._body.clear()
            if jobs:
                with self._body:
                    layout.empty(
                        "Your runs appear here once training has started.", "Train", "/train"
                    )

    async def _news(self, topic: str) -> None:
        if topic == "runs":
            self.show()
            await self.tell_disk()
        elif topic == "jobs":
            jobs = [job for job in self._studio.jobs.jobs() if job.training]
            self._show_first(not self._studio.runs.rows() and not jobs)
            self._show_jobs([job for job in jobs if not job.over])

    def _show_first(self, first: bool) -> None:
        """Show a first step where there are no runs yet."""
        if first == bool(self._first.default_slot.children):
            return
        self._first.clear()
        if not first:
            return
        with self._first, ui.element("div").classes("op-empty"):
            ui.label(
                "Your classifiers appear here. Train a first one: in a few minutes, a small "
                "network learns ten kinds of clothes from the 60,000 images of Fashion-MNIST."
            )
            button = layout.action("Try it on Fashion-MNIST", self._try, primary=True)
            button.classes("op-try")
            ui.link("Add your own images", "/data")

    async def _try(self) -> None:
        """Put the first training into the queue, and go to its page; a double click is one."""
        if self._asked:
            return
        self._asked = True
        words = ("train", *FIRST, "--runs", self._studio.settings.runs.absolute())
        try:
            job = await asyncio.to_thread(
                self._studio.jobs.add, "train", "Fashion-MNIST, cnn, 3 epochs", command(*words)
            )
        except OpsinError as error:
            self._asked = False
            self._status.fail(error)
            return
        self._studio.changed.emit("jobs")
        ui.navigate.to(f"/jobs/{job.id}")

    def _show_jobs(self, jobs: Sequence[Job]) -> None:
        """Show what is at work and what comes next."""
        shown = list(jobs[:_STRIP])
        if [job.id for job in shown] != list(self._lines):
            self._jobs.clear()
            with self._jobs:
                self._lines = {
                    job.id: JobLine(self._studio, job, controls=False, log=None) for job in shown
                }
        for job in shown:
            self._lines[job.id].show(job)
        self._strip.set_visibility(bool(jobs))
        more = len(jobs) - len(shown)
        self._more.set_text(f"{count(more)} more in the queue" if more else "Order, pause, stop")

    async def delete(self, ids: Sequence[str]) -> None:
        """Take runs out of the table, and offer them back."""
        self._status.clear()
        tokens = []
        for id_ in ids:
            try:
                tokens.append(await asyncio.to_thread(self._studio.runs.delete, id_))
            except OpsinError as error:
                self._status.add_error(error)
        if tokens:
            self.offer_undo(f"Deleted {counted(len(tokens), 'run')}", tokens)
            self._studio.changed.emit("runs")

    def offer_again(self, token: str) -> None:
        """Offer back a run that another page deleted, as long as it can be restored."""
        for each in self._deleted or ():
            if each.token == token:
                self.offer_undo(f"Deleted {safe(each.name, 80)}", [token])

    def offer_undo(self, text: str, tokens: Sequence[str]) -> None:
        """Say what was deleted, and offer it back."""

        async def take_back() -> None:
            for token in tokens:
                await self._restore(token)

        self._undo.offer(text, take_back)

    async def _restore(self, token: str) -> None:
        await asyncio.to_thread(self._studio.runs.restore, token)
        self._studio.changed.emit("runs")

    async def tell_disk(self) -> None:
        """Say what the runs take on the disk, what is free, and what can be restored."""
        rows = self._studio.runs.rows()
        free, deleted = await asyncio.gather(
            asyncio.to_thread(lambda: shutil.disk_usage(_nearest(self._studio.settings.runs))),
            asyncio.to_thread(self._studio.runs.deleted),
        )
        taken = f"{total(rows)} on the disk, and " if rows else ""
        text = f"{taken}{file_size(free.free)} of {file_size(free.total)} are free"
        self._disk.set_text(f"{text[0].upper()}{text[1:]}.")
        if deleted != self._deleted:
            self._deleted = deleted
            self._show_deleted(deleted)

    def _show_deleted(self, deleted: Sequence[Removed]) -> None:
        self._gone.clear()
        if not deleted:
            return
        items = [(each.token, each.name, each.when) for each in deleted]
        with self._gone, restorable("Deleted runs", items, self._take_back):
            ui.button("Delete permanently", on_click=self._ask_to_remove).props("flat dense")

    async def _take_back(self, token: str) -> None:
        with self._status.errors():
            await self._restore(token)

    async def _ask_to_remove(self) -> None:
        """Ask once more: this is the one thing here that cannot be taken back."""
        with ui.dialog() as dialog, ui.card().props('role="document"'):
            dialog._props["aria-label"] = "Delete runs permanently"
            ui.label("Permanently delete these runs and their files?")
            with ui.element("div").classes("op-actions"):
                layout.action("Cancel", lambda: dialog.submit(False))
                layout.action("Remove", lambda: dialog.submit(True))
        if await dialog:
            await asyncio.to_thread(self._studio.runs.sweep, 0.0)
            self._studio.changed.emit("runs")
        dialog.delete()


def _nearest(path: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    return next(each for each in (path, *path.parents) if each.is_dir())
