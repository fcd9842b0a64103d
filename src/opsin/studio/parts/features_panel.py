"""Features of all images of a set, as a file for other tools."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nicegui import ui
from pydantic import BaseModel

from opsin.core.format import count, counted
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.parts import layout
from opsin.studio.parts.download_link import download_link
from opsin.studio.parts.network_choice import network_choice, text_of
from opsin.studio.parts.status_line import StatusLine

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset
    from opsin.studio.state import Studio


class _Embedded(BaseModel):
    """What ``opsin embed --json`` says, as far as it is shown."""

    images: int
    units: int
    unreadable: list[dict[str, str]]


class FeaturesPanel:
    """Lets people choose a pretrained network, and download what it says of each image.

    Args:
        studio: Its queue computes them.
        the_set: The set.
        known: The networks, as `known_networks` returns them.
    """

    def __init__(self, studio: Studio, the_set: LibraryDataset, known: dict[str, str]) -> None:
        self._studio, self._set = studio, the_set
        self._chosen = ""
        with layout.panel("Features"):
            ui.label(
                "What a pretrained network says of each image, as a file for tools of yours: to "
                "search, to group, to train elsewhere."
            ).classes("op-muted")
            with ui.expansion("Choose a network").classes("op-more") as more:
                network_choice(known, "", self._choose)
                with ui.element("div").classes("op-actions"):
                    self._button = layout.action("Compute features", self._start)
            more.props('header-class="op-muted"')
            self._status = StatusLine()

    def _choose(self, chosen: str) -> None:
        self._chosen = chosen
        self._status.clear()

    async def _start(self) -> None:
        if not self._chosen:
            self._status.fail("Choose a pretrained network.")
            return
        self._button.disable()
        try:
            with self._status.errors():
                await self._compute()
        finally:
            if not self._button.is_deleted:
                self._button.enable()

    async def _compute(self) -> None:
        """Ask for the file, say how far it is, and offer it when it is there."""
        studio = self._studio
        folder = await asyncio.to_thread(new_output_folder, studio.jobs)
        words = ["--from", await asyncio.to_thread(text_of, studio, self._chosen)]
        out = folder.absolute() / "features.npz"
        argv = [*command("embed", *words, "--out", out), *self._set.words()]
        title = f"Features of {self._set.title}"
        asked = await JobAction.ask(studio.jobs, "embed", title, argv)
        if not await asked.over(self._status.say, lambda: self._status.element.is_deleted):
            return
        found, cause = await asked.answer(_Embedded)
        if found is None:
            self._status.fail(await asyncio.to_thread(studio.sets.in_names, cause))
            return
        left_out = f", {counted(len(found.unreadable), 'file')} unreadable"
        self._status.clear()
        with self._status.element:
            ui.label(
                f"{counted(found.images, 'image')}, {count(found.units)} numbers each"
                f"{left_out if found.unreadable else ''}"
            )
            download_link(asked.job)
