"""Import: a classifier that another program saved becomes a run."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nicegui import ui
from pydantic import BaseModel

from opsin.data.sources.named import NAMES
from opsin.studio.datasets.catalogue import LibraryDataset
from opsin.studio.datasets.upload_import import SentFile, file_name
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.pages.page import Page
from opsin.studio.parts import layout
from opsin.studio.parts.intake import Intake
from opsin.studio.parts.network_choice import PIXELS
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.state import Studio
from opsin.studio.threads import UPLOADS
from opsin.studio.words import safe

# Classifiers, and what stands beside them: names of classes, preparation, licence.
_MODELS: Final = (".keras", ".h5", ".hdf5", ".onnx", ".skops")
_ACCEPTED: Final = f"{','.join(_MODELS)},.txt,.json,.md"
_NONE: Final = "none"


class _Imported(BaseModel):
    """What ``opsin import --json`` says, as far as it is used."""

    run: str


async def import_classifier(studio: Studio) -> None:
    """Build it."""
    with layout.page(studio, "Import a classifier", "/", guide="how-to/import.html"):
        _Import(studio, await asyncio.to_thread(studio.sets.all)).build()


PAGE = Page("/import", import_classifier)


class _Import:
    """The form.

    Args:
        studio: What all windows share.
        sets: The datasets of the library.
    """

    def __init__(self, studio: Studio, sets: Sequence[LibraryDataset]) -> None:
        self._studio = studio
        self._folder: Path | None = None
        self._model: Path | None = None
        titles = {f"set:{each.id}": safe(each.title, 60) for each in sets}
        self._images = {_NONE: "No images", **titles, **{f"name:{name}": name for name in NAMES}}

    def build(self) -> None:
        """Show the form."""
        with layout.panel():
            with ui.element("p").classes("op-muted"):
                ui.label(
                    "A network that Keras saved (.keras, .h5), an ONNX file of any program, or an "
                    "estimator of scikit-learn that skops saved (.skops). Nothing in the file is "
                    "run, and its answers stay what they were. Files beside it, such as "
                    "labels.txt, can be sent with it."
                )
            Intake(
                "Choose or drop the classifier's file.",
                accept=_ACCEPTED,
                camera=False,
                batch=secrets.token_hex(8),
                on_all=self._take,
            )
            self._taken = ui.label("").classes("op-muted op-hint").props('role="status"')
            self._pixels = ui.select(
                PIXELS, label="Pixels that it was trained on", value=""
            ).classes("op-field").props("options-dense")  # fmt: skip
            self._measured = ui.select(
                self._images, label="Images to measure it on", value=_NONE
            ).classes("op-field").props("options-dense")  # fmt: skip
            self._classes = ui.input("Classes in the order of its answers").classes("op-field")
            self._classes.props("dense")
            with ui.element("p").classes("op-hint"):
                ui.label(
                    "With commas between them. Leave it empty where the file says them, or for the "
                    "order of the images' classes."
                )
            with ui.element("div").classes("op-actions"):
                self._start = layout.action("Import", self._begin, primary=True)
            self._start.disable()
            self._status = StatusLine()

    async def _take(self, files: list[SentFile]) -> None:
        """Keep what was sent in one folder, as it lay together."""
        self._status.clear()
        with self._status.errors():
            if self._folder is None:
                self._folder = await asyncio.to_thread(new_output_folder, self._studio.jobs)
            for file in files:
                await UPLOADS.run(self._keep, file, self._folder)
        if self._model is not None:
            self._taken.set_text(safe(self._model.name, 80))
            self._start.enable()

    def _keep(self, file: SentFile, folder: Path) -> None:
        sent = self._studio.uploads.path(file["key"])
        kept = folder / file_name(file["name"])
        shutil.move(sent, kept)
        self._studio.uploads.drop(file["key"])
        if kept.suffix.lower() in _MODELS:
            self._model = kept

    def _words(self, model: Path) -> list[str]:
        """Return the command line of what the form says."""
        kind, _, which = str(self._measured.value).partition(":")
        measured = [f"--data={which}"] if kind == "name" else []
        if kind == "set":
            measured = self._studio.sets.get(which).words_to_measure()
        words = [f"--runs={self._studio.settings.runs.absolute()}", *measured]
        if self._pixels.value:
            words.append(f"--prepare={self._pixels.value}")
        if str(self._classes.value).strip():
            words.append(f"--classes={str(self._classes.value).strip()}")
        return [*command("import", *words), "--", str(model.absolute())]

    async def _begin(self) -> None:
        if self._model is None:
            return
        self._start.disable()
        try:
            with self._status.errors():
                await self._bring(self._model)
        finally:
            if not self._start.is_deleted:
                self._start.enable()

    async def _bring(self, model: Path) -> None:
        """Ask for the import, say how far it is, and go to the run."""
        studio = self._studio
        words = await asyncio.to_thread(self._words, model)
        title = f"Import of {model.name}"
        asked = await JobAction.ask(studio.jobs, "import", title, words)
        if not await asked.over(self._status.say, lambda: self._status.element.is_deleted):
            return
        found, cause = await asked.answer(_Imported)
        if found is None:
            said = await asyncio.to_thread(studio.sets.in_names, cause)
            self._status.fail(said.replace(str(model), model.name))
            return
        await asyncio.to_thread(studio.runs.scan)
        studio.changed.emit("runs")
        row = studio.runs.find(Path(found.run).name)
        ui.navigate.to(f"/runs/{row.id}" if row is not None else "/")
