"""The images of a set in one file, for other tools."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nicegui import ui
from pydantic import BaseModel

from opsin.core.format import counted, file_size
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.parts import layout
from opsin.studio.parts.download_link import download_link
from opsin.studio.parts.status_line import StatusLine

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset
    from opsin.studio.state import Studio


class _Exported(BaseModel):
    """What ``opsin data --export --json`` says, as far as it is shown."""

    images: int
    bytes: int


class ExportPanel:
    """Lets people take a set's images, classes and parts to another tool.

    Args:
        studio: Its queue writes the file.
        the_set: The set.
    """

    def __init__(self, studio: Studio, the_set: LibraryDataset) -> None:
        self._studio, self._set = studio, the_set
        with layout.panel("Export"):
            text = "Images and classes as arrays for NumPy and Keras, in one .npz file."
            ui.label(text).classes("op-muted")
            with ui.element("div").classes("op-actions"):
                self._button = layout.action("Export", self._start)
            self._status = StatusLine()

    async def _start(self) -> None:
        self._button.disable()
        try:
            with self._status.errors():
                await self._write()
        finally:
            if not self._button.is_deleted:
                self._button.enable()

    async def _write(self) -> None:
        """Ask for the file, say how far it is, and offer it when it is there."""
        studio = self._studio
        folder = await asyncio.to_thread(new_output_folder, studio.jobs)
        out = folder.absolute() / "images.npz"
        argv = [*command("data", "--export", out), *self._set.words()]
        asked = await JobAction.ask(studio.jobs, "export", f"Export of {self._set.title}", argv)
        if not await asked.over(self._status.say, lambda: self._status.element.is_deleted):
            return
        written, cause = await asked.answer(_Exported)
        if written is None:
            self._status.fail(await asyncio.to_thread(studio.sets.in_names, cause))
            return
        self._status.clear()
        with self._status.element:
            ui.label(f"{counted(written.images, 'image')}, {file_size(written.bytes)}")
            download_link(asked.job)
