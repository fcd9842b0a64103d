"""Look inside: what each block of a network makes of a photograph."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions, PredictedPart, RunPredictions
from opsin.core.artifacts.run_report import Report
from opsin.core.child_process import Header
from opsin.core.errors import ModelFileError, MovedError, OpsinError
from opsin.core.format import about, count, percent
from opsin.core.glossary import term_of_layer
from opsin.core.metadata import Layer, LayerOp
from opsin.data.run_images import recipe_of_run
from opsin.studio.context import Studio
from opsin.studio.pages.inside_photographs import choose_photograph
from opsin.studio.pages.inside_questions import WHY, questions
from opsin.studio.pages.page import Page
from opsin.studio.projects import Project
from opsin.studio.runs.inspection_sessions import InspectionAnswer, Stopped
from opsin.studio.threads import IMAGES
from opsin.studio.ui import layout, maps
from opsin.studio.ui.graph import NetworkGraph, blocks_of, shape_in_words, title_of
from opsin.studio.ui.kit import (
    Handler,
    action,
    empty,
    error_line,
    heading,
    icon_action,
    note,
    rooted,
    without_commands,
)  # fmt: skip
from opsin.studio.ui.terms import word
from opsin.studio.ui.waiting import Waiting
from opsin.studio.words import safe

_KNOWN: Final = re.compile(r"(?:test|val|out_of_fold)/(\d{1,9})")
_KEPT: Final = re.compile(r"kept/([0-9a-f]{16})")
# Seconds that looking for a unit's photographs may take, and the fewest of them that say something.
_SHORT, _FEW = 10.0, 100
# Errors of the worker in words of the page.
_WORDS: Final = {
    MovedError: "The images of this classifier were moved.",
    ModelFileError: "This part of the network cannot be shown: the classifier's file is damaged, "
    "or has no such part. Choose another block; if that fails too, train again.",
}
# Back and forward lead to what was shown then.
_BACK: Final = "<script>addEventListener('popstate', () => location.reload())</script>"


@dataclass(frozen=True)
class _Shown:
    """What the address names: a photograph, a layer, and one of its units."""

    image: str
    layer: str
    unit: int | None = None


class _Results(NamedTuple):
    """What a run says of its network, and of the images that it was judged by, if they are there.

    Without a report, which imported networks may lack, there are no layers.
    """

    layers: list[Layer]
    part: PredictedPart = "test"
    judged: PartPredictions | None = None
    moved: MovedError | None = None


def _read(directory: RunDirectory) -> _Results:
    results = _Results([])
    try:
        report = directory.read(Report)
        results = _Results(report.layers, report.split)
        recipe_of_run(directory)
        return results._replace(judged=RunPredictions.read(directory).of(report.split))
    except MovedError as error:
        return results._replace(moved=error)
    except OpsinError:  # imported without images
        return results


async def inside(
    studio: Studio, *, project: str, run: str = "", image: str = "", layer: str = "",
    unit: str = "", view: str = "",
) -> None:  # fmt: skip
    """Build it."""
    the_project = await IMAGES.run(studio.projects.get, project)
    with layout.page(
        studio, "Look inside", project=the_project, here="inside", guide="how-to/inspect.html"
    ) as frame:
        row = the_project.classifier(run)
        if row is None:
            address = layout.address(the_project, "train")
            empty("Train a classifier, and you can look inside it here.", "Train", address)
            return
        ui.add_head_html(_BACK)
        results = await IMAGES.run(lambda: _read(studio.runs.get(row.id)))
        number = int(unit) if unit.isascii() and unit.isdigit() and len(unit) < 7 else None
        body = _Inside(studio, the_project, row.id, results, _Shown(image, layer, number))
        if view == "why":
            body.unfolded.add(WHY)
        body.build(frame)
        ui.timer(0, body.start, once=True)


PAGE = Page("/projects/{project}/inside", inside)


class _Inside:
    """The page below its heading."""

    def __init__(
        self, studio: Studio, project: Project, run: str, results: _Results, shown: _Shown
    ) -> None:
        self._studio, self._project, self._run = studio, project, run
        self._results, self._shown, self._layers = results, shown, results.layers
        self._seconds = 1.0  # that an image takes
        self._graph: NetworkGraph | None = None
        self.unfolded: set[str] = set()  # questions, for the next layer too

    def build(self, frame: layout.Frame) -> None:
        """Show what takes no time."""
        rows = {row.id: safe(self._project.title_of(row), 60) for row in self._project.classifiers}
        self._dialog = ui.dialog().props('aria-label="Choose a photograph"')
        with frame.actions:
            if len(rows) > 1:
                choice = ui.select(rows, value=self._run, label="Classifier")
                choice.on_value_change(
                    lambda event: ui.navigate.to(
                        layout.address(self._project, "inside", run=event.value)
                    )
                )
            action("Choose a photograph", self._choose, kind="primary", icon="add_a_photo")
        if self._results.moved is not None:
            error_line(self._results.moved)
        with ui.element("div").classes("inside") as self._body:
            ui.skeleton(height="240px")

    async def start(self) -> None:
        """Show the network, and what the address names."""
        if not self._layers:
            answer = await self.ask(self._body, "Opening the network", "layers", {})
            if answer is None:
                return
            self._layers = list(map(Layer.model_validate, answer.values["layers"]))
        self._blocks = blocks_of(self._layers)
        self._shown = self._checked()
        self._body.clear()
        with self._body:
            self._photo = ui.element("section").props('aria-label="Photograph"')
            self._graph = NetworkGraph(
                self._blocks, self._shown.layer, lambda name: self.show(layer=name, unit=None)
            )
            self._result = ui.element("section").classes("stack").props('aria-label="Maps"')
        await self.show()

    def _checked(self) -> _Shown:
        """What the address names, with what means nothing replaced."""
        first = self._blocks[self._blocks[0].title == "Input" and len(self._blocks) > 1].result.name
        names = {layer.name for layer in self._layers}
        layer = self._shown.layer if self._shown.layer in names else first
        image, judged = self._shown.image, self._results.judged
        if not _KEPT.fullmatch(image):
            known, last = _KNOWN.fullmatch(image), len(judged.rows) - 1 if judged else -1
            at = min(int(known[1]), last) if known else 0
            image = f"{self._results.part}/{at}" if last >= 0 else ""
        return _Shown(image, layer, self._shown.unit)

    @property
    def _image(self) -> Header:
        """The photograph, as the worker is asked about it."""
        if kept := _KEPT.fullmatch(self._shown.image):
            return {"kept": kept[1]}
        part, _, number = self._shown.image.partition("/")
        if part == "out_of_fold" and self._results.judged is not None:
            return {"image": f"{part}/{self._results.judged.rows[int(number)]}"}
        return {"image": self._shown.image}

    async def show(self, **changes: Any) -> None:
        """Show another photograph, layer or unit."""
        if changes:
            self._shown = shown = replace(self._shown, **changes)
            unit = "" if shown.unit is None else str(shown.unit)
            there = layout.address(self._project, "inside", run=self._run, image=shown.image,
                                   layer=shown.layer, unit=unit)  # fmt: skip
            ui.navigate.history.push(rooted(there))
            if self._graph is None:  # the network could not be opened before
                await self.start()
                return
            self._graph.choose(shown.layer)
        if not self._shown.image:
            self._result.clear()
            with self._result:
                empty("Choose a photograph to see what each block of the network makes of it.")
            return
        options = {"layer": self._shown.layer, **self._image}
        if self._shown.unit is not None:
            options["unit"] = self._shown.unit
        answer = await self.ask(self._result, "Computing the maps", "maps", options)
        if answer is not None:
            self._seconds = max(1e-4, answer.values["seconds"])
            self._show_photograph(answer)
            self._result.clear()
            with self._result:
                await self._show_layer(answer)

    async def ask(
        self, area: ui.element, text: str, do: str, options: Header,
        again: Handler | None = None,
    ) -> InspectionAnswer | None:  # fmt: skip
        """Ask the worker, and show progress and errors in an area of the page.

        Work that takes long can be stopped, and done ``again``. There is no answer if the page
        shows something else by then.
        """
        if area.is_deleted:
            return None
        sessions, wanted = self._studio.inside, self._shown

        async def stop() -> None:
            await sessions.cancel(self._run, do, **options)

        with area:
            waiting = Waiting(text, stop if again else None)
        waiting.element.move(area, target_index=0)
        answer = error = None
        try:
            answer = await sessions.ask(self._run, do, on_progress=waiting.tell, **options)
        except OpsinError as failure:
            error = failure
        waiting.delete()
        if area.is_deleted or wanted != self._shown:
            return None
        if error is not None:
            area.clear()
            with area:
                if isinstance(error, Stopped):
                    note("Stopped.")
                else:
                    error_line(_WORDS.get(type(error)) or without_commands(str(error)))
                if again:
                    action("Start again", again).classes("self-start")
        return answer

    def _show_photograph(self, answer: InspectionAnswer) -> None:
        short, (tall, wide) = answer.values["answer"], answer.values["size"]
        (nearest, share), *_ = short["top"]
        actual, refused = short["actual"], short["label"] != nearest
        self._photo.clear()
        with self._photo:
            maps.framed(answer.src(answer.values["image"]), f"The photograph, {wide}×{tall} pixels")
            verdict = "None of these" if refused else f"{safe(nearest, 60)}, {percent(share)}"
            label = ui.label(verdict).classes("answer").props("role=status")
            if refused:
                note(f"It looks unlike the training photographs. Nearest: {safe(nearest, 60)}.")
            elif actual is not None:
                label.classes("right" if actual == nearest else "wrong")
            if actual not in (None, nearest):
                note(f"You sorted it as {safe(actual, 60)}.")
            maps.bars([(name, share, percent(share)) for name, share in short["top"]])
            known, judged = _KNOWN.fullmatch(self._shown.image), self._results.judged
            if known and judged is not None:
                at, total = int(known[1]), len(judged.rows)
                with ui.element("div").classes("line"):
                    self._step("Previous photograph", at - 1, total, part=self._results.part)
                    note(f"{count(at + 1)} of {count(total)}")
                    self._step("Next photograph", at + 1, total, part=self._results.part)

    def _step(self, text: str, to: int, total: int, *, part: str = "") -> None:
        """A button for the photograph (of a part), or else the unit, before or after."""
        change: Header = {"image": f"{part}/{to}"} if part else {"unit": to}
        icon = "chevron_left" if text.startswith("Previous") else "chevron_right"
        icon_action(icon, text, lambda: self.show(**change)).set_enabled(0 <= to < total)

    async def _show_layer(self, answer: InspectionAnswer) -> None:
        block = next(block for block in self._blocks if self._shown.layer in block)
        layer = next(layer for layer in block.layers if layer.name == self._shown.layer)
        with ui.element("div").classes("line"):
            heading(block.title)
            if title_of(layer) != block.title:
                word(title_of(layer), term_of_layer(layer.kind))
            number = sum(layer.parameters for layer in block.layers)
            parameters = f" · {count(number)} parameters in this block" if number else ""
            note(f"{shape_in_words(layer)}{parameters}")
        if not any(one.op in (LayerOp.CONV, LayerOp.DENSE) for one in self._layers):
            note("A model without layers: the blocks are its steps.")
        if self._shown.unit is not None:
            await self._show_unit(answer, self._shown.unit)
            return
        if answer.values["maps"]:
            maps.scale_line(answer.values)
        elif layer is self._layers[-1]:
            note("One score for each class; the highest gives the answer.")
        self._add_units(answer, ui.element("div").classes("stack"), ui.element("div"))
        questions(self.ask, self._blocks, layer.name, self._image, self.unfolded)

    def _add_units(
        self, answer: InspectionAnswer, area: ui.element, more: ui.element, first: int = 0
    ) -> None:
        """Show some more of a layer's units, and how to see the next ones."""
        shown, total = first + len(answer.values["units"]), answer.values["total"]
        options = {"layer": self._shown.layer, "first": shown, **self._image}
        with area:
            maps.units(answer, lambda number: self.show(unit=number))
        more.clear()

        async def show_more() -> None:
            more.clear()
            following = await self.ask(more, "Computing the maps", "maps", options)
            if following is not None:
                self._add_units(following, area, more, shown)

        if shown < total:
            with more:
                action(f"Show more ({count(total - shown)} left)", show_more)

    async def _show_unit(self, answer: InspectionAnswer, number: int) -> None:
        """Show one unit alone: its map, its numbers, and what it looks for."""
        total, what = answer.values["total"], "maps" if answer.values["maps"] else "numbers"
        with ui.element("div").classes("line"):
            action(f"All {count(total)} {what}", lambda: self.show(unit=None), icon="arrow_back")
            self._step("Previous", number - 1, total)
            self._step("Next", number + 1, total)
        maps.one_unit(answer)
        if self._results.judged is not None:
            heading("What it looks for", 3)
            area = ui.element("div").classes("stack")
            limit = max(_FEW, int(_SHORT / self._seconds))
            await self._look_for(area, answer, limit=limit)

    async def _look_for(self, area: ui.element, unit: InspectionAnswer, **limit: int) -> None:
        """Show the training photographs that activate a unit most, of some or of all."""
        area.clear()
        options = {"layer": self._shown.layer, "unit": self._shown.unit, **limit}
        answer = await self.ask(area, "Looking at the training photographs", "unit", options,
                                lambda: self._look_for(area, unit, **limit))  # fmt: skip
        if answer is None:
            return
        seen, total = answer.values["images"], answer.values["total"]
        with area:
            maps.best_photographs(answer, unit.values["size"])
            if seen < total:
                note(f"The best of {count(seen)} of its {count(total)} photographs.")
                text = f"Look at all of them (about {about(self._seconds * total)})"
                action(text, lambda: self._look_for(area, unit)).classes("self-start")

    async def _choose(self) -> None:
        await choose_photograph(
            self._dialog, self._studio, self._run, lambda image: self.show(image=image),
            part=self._results.part, judged=self._results.judged,
        )  # fmt: skip
