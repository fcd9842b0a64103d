"""Import: a classifier that another program saved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from nicegui import ui

from opsin.backbones.pixel_values import CHOICES
from opsin.studio.context import Studio
from opsin.studio.datasets.uploads import SentFile, file_name
from opsin.studio.jobs.job import JobAnswer, command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.pages.page import Page
from opsin.studio.people import require
from opsin.studio.threads import UPLOADS, WATCHER
from opsin.studio.ui import kit
from opsin.studio.ui.intake import Intake
from opsin.studio.ui.layout import address, page
from opsin.studio.words import safe

# Classifiers; beside them may stand names of classes, preparation, licence.
_MODELS: Final = (".keras", ".h5", ".hdf5", ".onnx", ".skops")
# What an upload is resumed by: the same in every window, and after a reload.
_BATCH: Final = "000000000001a907"
_EXPERT: Final = "How does it expect its photographs?"
# Values of the pixels that a network was trained on.
_PIXELS: Final = {"": "As its files say"} | {
    f"{choice}{order}": f"{choice}{words}"
    for choice in CHOICES
    for order, words in {"": "", ",bgr": ", blue first"}.items()
}


@Page("/import", more="Import a classifier", needs="owner")
def import_classifier(studio: Studio) -> None:
    """Build the page."""
    with page(studio, "Import a classifier", guide="how-to/import.html"):
        _Import(studio)


class _Import:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._folder: Path | None = None
        self._model: Path | None = None
        with ui.element("div").classes("stack prose"):
            kit.note(
                "A network saved by Keras (.keras, .h5), an ONNX file of any program, or an "
                "estimator of scikit-learn saved by skops (.skops). Nothing in the file is run. "
                "You can send files beside it, such as labels.txt, with it."
            )
            accepted = ",".join([*_MODELS, ".txt", ".json", ".md"])
            Intake(
                "Choose or drop the classifier's file",
                accept=accepted,
                camera=False,
                batch=_BATCH,
                on_all=self._take,
            )
            self._classes = ui.input("Classes in the order of its answers, separated by commas")
            kit.note("Leave it empty if the file names them.")
            with kit.question(_EXPERT, lambda: None) as self._expert:
                self._pixels = ui.select(_PIXELS, label="Values of the pixels", value="")
            with ui.element("div").classes("line"):
                self._start = kit.action("Import", self._begin, kind="primary")
                self._taken = kit.note("Choose its file first.").props('role="status"')
            self._start.disable()
            self._status = kit.StatusLine()

    async def _take(self, files: list[SentFile]) -> None:
        """Keep what was sent in one folder, as it lay together."""
        with self._status.errors():
            require("owner")
            if self._folder is None:
                self._folder = await UPLOADS.run(new_output_folder, self._studio.jobs)
            for file in files:
                kept = self._folder / file_name(file["name"])
                sent = self._studio.uploads.path(file["key"])
                await UPLOADS.run(shutil.move, sent, kept)
                await UPLOADS.run(self._studio.uploads.drop, file["key"])
                if kept.suffix.lower() in _MODELS:
                    self._model = kept
        if self._model is not None:
            self._taken.set_text(safe(self._model.name, 80))
            self._start.enable()

    def _words(self, model: Path) -> list[str]:
        runs, classes = self._studio.settings.runs.absolute(), (self._classes.value or "").strip()
        values = {"runs": runs, "prepare": self._pixels.value, "classes": classes}
        words = [f"--{option}={value}" for option, value in values.items() if value]
        return [*command("import", *words), "--", str(model.absolute())]

    async def _begin(self) -> None:
        self._start.disable()
        with self._status.errors():
            if self._model is not None:
                await self._bring(self._model)
        self._start.enable()

    async def _bring(self, model: Path) -> None:
        """Import it, say how far that is, and go to the classifier."""
        studio, status = self._studio, self._status
        title = f"Import of {model.name}"
        asked = await JobAction.ask(studio.jobs, "import", title, self._words(model))

        def say(line: str) -> None:
            status.say(kit.explained(line.removeprefix("opsin: ")))

        if not await asked.over(say, lambda: status.element.is_deleted):
            return
        answer, cause = await asked.answer(JobAnswer)
        if answer is None or answer.run is None:
            text = studio.sets.in_names(cause).replace(str(model), model.name)
            # What its advice names is called otherwise here.
            hint = f"Choose the values under “{_EXPERT}”." if "--prepare" in text else ""
            hint += "Name the classes here." if "--classes" in text else ""
            status.fail(f"{text} {hint}")
            self._expert.set_value("--prepare" in text)
            return
        await WATCHER.run(studio.runs.scan)
        studio.changed.emit("runs")
        row = studio.runs.find(Path(answer.run).name)
        if row is not None:
            ui.navigate.to(address(studio.projects.of_run(row.id), "try", run=row.id))
