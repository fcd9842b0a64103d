"""Look inside: what each block of a network makes of a photograph."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions, PredictedPart, RunPredictions
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import MovedError, OpsinError
from opsin.core.format import about, count, percent
from opsin.core.glossary import term_of_layer
from opsin.core.metadata import Layer
from opsin.data.run_images import recipe_of_run
from opsin.report.inside.decision_sections import METHODS
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.pages.page import Page
from opsin.studio.projects import Project
from opsin.studio.runs.inspection_sessions import InspectionAnswer
from opsin.studio.runs.run_index import RunRow
from opsin.studio.state import Studio
from opsin.studio.threads import UPLOADS
from opsin.studio.ui import layout
from opsin.studio.ui.gallery import GalleryImage, ImageGallery, Mark
from opsin.studio.ui.graph import NetworkGraph, blocks_of, shape_in_words, title_of
from opsin.studio.ui.intake import IMAGES, Intake
from opsin.studio.ui.kit import (
    StatusLine,
    action,
    empty,
    error_line,
    heading,
    icon_action,
    note,
    question,
    rooted,
)
from opsin.studio.ui.lesson import lesson_view
from opsin.studio.ui.maps import (
    bars,
    best_photographs,
    framed,
    maps_grid,
    one_map,
    scale_line,
    unit_bars,
)
from opsin.studio.ui.tables import Column, table
from opsin.studio.ui.terms import word
from opsin.studio.ui.waiting import Waiting
from opsin.studio.words import safe

_KNOWN: Final = re.compile(r"(?:test|val|out_of_fold)/(\d{1,9})")
_KEPT: Final = re.compile(r"kept/([0-9a-f]{16})")
# Seconds that looking for a unit's photographs may take without being asked for.
_SHORT: Final = 10.0
# Fewest of them that say something.
_FEW: Final = 100
# Back and forward lead to what was shown then.
_BACK: Final = "<script>addEventListener('popstate', () => location.reload())</script>"


@dataclass(frozen=True)
class _Shown:
    """What the address names: a photograph, a layer, and one of its units."""

    image: str
    layer: str
    unit: int | None = None


@dataclass(frozen=True)
class _Classifier:
    """A classifier, and the answers that it was judged by, unless its images are gone."""

    row: RunRow
    layers: list[Layer]
    part: PredictedPart
    judged: PartPredictions | None
    moved: MovedError | None

    @classmethod
    def read(cls, row: RunRow, directory: RunDirectory) -> _Classifier:
        report = directory.read(Report)
        judged = moved = None
        try:
            recipe_of_run(directory)
            judged = RunPredictions.read(directory).of(report.split)
        except MovedError as error:
            moved = error
        except OpsinError:
            pass  # imported without images
        return cls(row, report.layers, report.split, judged, moved)


async def inside(
    studio: Studio, *, project: str, run: str = "", image: str = "", layer: str = "", unit: str = ""
) -> None:
    """Build it."""
    the_project = await asyncio.to_thread(studio.projects.get, project)
    view = None
    with layout.page(
        studio, "Look inside", project=the_project, here="inside", guide="how-to/inspect.html"
    ) as frame:
        row = the_project.classifier(run)
        if row is None:
            address = layout.address(the_project, "train")
            empty("Train a classifier, and you can look inside it here.", "Train", address)
            return
        ui.add_head_html(_BACK)
        directory = await asyncio.to_thread(studio.runs.get, row.id)
        classifier = await asyncio.to_thread(_Classifier.read, row, directory)
        number = int(unit) if unit.isascii() and unit.isdigit() and len(unit) < 7 else None
        view = _Inside(studio, the_project, classifier, _Shown(image, layer, number))
        view.build(frame)
    if view is not None:
        await ui.context.client.connected()
        await view.show()


PAGE = Page("/projects/{project}/inside", inside)


class _Inside:
    """The page below its heading."""

    def __init__(
        self, studio: Studio, project: Project, classifier: _Classifier, shown: _Shown
    ) -> None:
        self._studio, self._project, self._classifier = studio, project, classifier
        self._run = classifier.row.id
        self._blocks = blocks_of(classifier.layers)
        self._layers = {layer.name: layer for layer in classifier.layers}
        self._shown = self._checked(shown)
        self._seconds = 1.0  # that an image takes
        self._open: set[str] = set()

    def _checked(self, shown: _Shown) -> _Shown:
        """What the address names, with what means nothing replaced."""
        first = next((block for block in self._blocks[1:] if block.title != "Input"), None)
        layer = (first or self._blocks[0]).result.name if self._blocks else ""
        if shown.layer in self._layers:
            layer = shown.layer
        judged, image = self._classifier.judged, shown.image
        known = _KNOWN.fullmatch(image)
        if not _KEPT.fullmatch(image):
            last = 0 if judged is None else len(judged.rows) - 1
            place = min(int(known[1]), last) if known else 0
            image = "" if judged is None or last < 0 else f"{self._classifier.part}/{place}"
        return _Shown(image, layer, shown.unit)

    @property
    def _place(self) -> int | None:
        """Position of the photograph among the judged ones; ``None`` for one's own."""
        known = _KNOWN.fullmatch(self._shown.image)
        return int(known[1]) if known else None

    @property
    def _image(self) -> dict[str, Any]:
        """The photograph, as the worker is asked about it."""
        if kept := _KEPT.fullmatch(self._shown.image):
            return {"kept": kept[1]}
        judged, place = self._classifier.judged, self._place
        if self._classifier.part == "out_of_fold" and judged is not None and place is not None:
            return {"image": f"out_of_fold/{judged.rows[place]}"}
        return {"image": self._shown.image}

    def build(self, frame: layout.Frame) -> None:
        """Show what takes no time."""
        rows = {row.id: self._project.title_of(row) for row in self._project.classifiers}
        with frame.actions:
            if len(rows) > 1:
                choice = ui.select(rows, value=self._run, label="Classifier")
                choice.on_value_change(
                    lambda event: ui.navigate.to(
                        layout.address(self._project, "inside", run=event.value)
                    )
                )
            action("Choose a photograph", self._choose, kind="primary", icon="add_a_photo")
        if self._classifier.moved is not None:
            error_line(self._classifier.moved)
        with ui.element("div").classes("inside"):
            with ui.element("section").props('aria-label="Photograph"') as self._photo:
                ui.skeleton(width="100%", height="240px")
            self._graph = NetworkGraph(
                self._blocks, self._shown.layer, lambda name: self.show(layer=name, unit=None)
            )
            self._result = ui.element("section").classes("stack").props('aria-label="Maps"')
        self._dialog = ui.dialog()

    async def show(self, **changes: Any) -> None:
        """Show another photograph, layer or unit."""
        if changes:
            self._shown = replace(self._shown, **changes)
            shown, unit = self._shown, self._shown.unit
            there = layout.address(
                self._project, "inside", run=self._run, image=shown.image, layer=shown.layer,
                unit="" if unit is None else str(unit),
            )  # fmt: skip
            ui.navigate.history.push(rooted(there))
            self._graph.choose(shown.layer)
        if not self._shown.image:
            self._photo.clear()
            self._result.clear()
            with self._result:
                empty("Choose a photograph to see what each block of the network makes of it.")
            return
        wanted = self._shown
        options = {"layer": wanted.layer, **self._image}
        if wanted.unit is not None:
            options["unit"] = wanted.unit
        answer = await self._ask(self._result, "Computing the maps", "maps", options)
        if answer is None or wanted != self._shown:
            return
        self._seconds = max(1e-4, answer.values["seconds"])
        self._show_photograph(answer)
        self._result.clear()
        with self._result:
            await self._show_layer(answer)

    async def _ask(
        self, place: ui.element, text: str, do: str, options: dict[str, Any], *, stop: bool = False
    ) -> InspectionAnswer | None:
        """Ask the worker; what it does and why it cannot are shown in a place."""
        if place.is_deleted:
            return None
        inspected = self._studio.inside

        async def cancel() -> None:
            await inspected.cancel(self._run, do, **options)

        with place:
            waiting = Waiting(text, cancel if stop else None)
        try:
            answer = await inspected.ask(self._run, do, on_progress=waiting.tell, **options)
        except OpsinError as error:
            if not place.is_deleted:
                place.clear()
                with place:
                    moved = isinstance(error, MovedError)
                    error_line("The images of this classifier were moved." if moved else error)
            return None
        waiting.delete()
        return None if place.is_deleted else answer

    def _show_photograph(self, answer: InspectionAnswer) -> None:
        said, place = answer.values["answer"], self._place
        actual, size = said["actual"], answer.values["size"]
        self._photo.clear()
        with self._photo:
            framed(
                answer.src(answer.values["image"]), f"The photograph, {size[1]}×{size[0]} pixels"
            )
            (nearest, share), *_ = said["top"]
            refused, right = said["label"] != nearest, actual in (None, nearest)
            verdict = "None of these" if refused else f"{nearest}, {percent(share)}"
            label = ui.label(safe(verdict, 80)).classes("answer").props("role=status")
            if actual is not None and not refused:
                label.classes("right" if right else "wrong")
            if refused:
                note(f"It looks unlike the training photographs. Nearest: {safe(nearest, 60)}.")
            if not right:
                note(f"You sorted it as {safe(actual, 60)}.")
            bars([(name, share, percent(share)) for name, share in said["top"]])
            judged = self._classifier.judged
            if place is not None and judged is not None:
                last = len(judged.rows) - 1
                with ui.element("div").classes("line"):
                    self._step("chevron_left", "Previous photograph", place - 1, place > 0)
                    note(f"{count(place + 1)} of {count(last + 1)}")
                    self._step("chevron_right", "Next photograph", place + 1, place < last)

    def _step(self, icon: str, label: str, place: int, there: bool) -> None:
        image = f"{self._classifier.part}/{place}"
        button = icon_action(icon, label, lambda: self.show(image=image))
        button.set_enabled(there)

    async def _show_layer(self, answer: InspectionAnswer) -> None:
        layer, values = self._layers[self._shown.layer], answer.values
        block = next(block for block in self._blocks if layer in block.layers)
        with ui.element("div").classes("line"):
            heading(block.title)
            if title_of(layer) != block.title:
                word(title_of(layer), term_of_layer(layer.kind))
            parameters = f" · {count(layer.parameters)} parameters" if layer.parameters else ""
            note(f"{shape_in_words(layer)}{parameters}")
        if not self._classifier.row.has_layers:
            note("A model without layers: the blocks are its steps.")
        if self._shown.unit is not None:
            await self._show_unit(answer)
            return
        if values["maps"]:
            scale_line(values)
        elif layer is self._classifier.layers[-1]:
            note("One score for each class; the highest gives the answer.")
        place = ui.element("div").classes("stack")
        self._add_units(answer, place, ui.element("div"))
        self._questions()

    def _add_units(
        self, answer: InspectionAnswer, place: ui.element, more: ui.element, first: int = 0
    ) -> None:
        """Show some more of a layer's units, and how to see the next ones."""
        values, wanted = answer.values, self._shown
        with place:
            show = maps_grid if values["maps"] else unit_bars
            show(answer, lambda number: self.show(unit=number))
        more.clear()
        shown = first + len(values["units"])

        async def show_more() -> None:
            more.clear()
            options = {"layer": wanted.layer, "first": shown, **self._image}
            following = await self._ask(more, "Computing the maps", "maps", options)
            if following is not None:
                self._add_units(following, place, more, shown)

        if shown < values["total"]:
            with more:
                action(f"Show more ({count(values['total'] - shown)} left)", show_more)

    async def _show_unit(self, answer: InspectionAnswer) -> None:
        """Show one unit alone: its map, its numbers, and what it looks for."""
        values = answer.values
        number, total = self._shown.unit or 0, values["total"]
        with ui.element("div").classes("line"):
            what = "maps" if values["maps"] else "numbers"
            action(f"All {count(total)} {what}", lambda: self.show(unit=None), icon="arrow_back")
            for icon, text, step in (
                ("chevron_left", "Previous", -1),
                ("chevron_right", "Next", 1),
            ):
                button = icon_action(icon, text, lambda step=step: self.show(unit=number + step))
                button.set_enabled(0 <= number + step < total)
        one_map(answer, values["units"][0])
        heading("What it looks for", 3)
        place = ui.element("div").classes("stack")
        await self._look_for(place, values["size"], max(_FEW, int(_SHORT / self._seconds)))

    async def _look_for(
        self, place: ui.element, size: tuple[int, int], limit: int | None = None
    ) -> None:
        """Show the training photographs that activate a unit most, of some or of all."""
        wanted = self._shown
        options: dict[str, Any] = {"layer": wanted.layer, "unit": wanted.unit}
        if limit is not None:
            options["limit"] = limit
        place.clear()
        text = "Looking at the training photographs"
        answer = await self._ask(place, text, "unit", options, stop=True)
        if answer is None or wanted != self._shown:
            return
        seen, total = answer.values["images"], answer.values["total"]
        with place:
            best_photographs(answer, size)
            if seen < total:
                note(f"These are the best of {count(seen)} of its {count(total)} photographs.")
                action(
                    f"Look at all of them (about {about(self._seconds * total)})",
                    lambda: self._look_for(place, size),
                )

    def _questions(self) -> None:
        """What else can be asked about this layer and this photograph."""
        for title, build in (
            ("How does this block compute?", self._lesson),
            ("Why this answer?", self._why),
            ("How is the network built?", self._structure),
        ):
            fold = question(title, build, is_open=title in self._open)
            fold.on_value_change(
                lambda event, title=title: (
                    self._open.add(title) if event.value else self._open.discard(title)
                )
            )

    async def _lesson(self, term: str = "", layer: str = "") -> None:
        """Show the real numbers of a layer of the block."""
        block = next(b for b in self._blocks if self._layers[self._shown.layer] in b.layers)
        place = ui.element("div").classes("stack")
        named = {"layer": layer or self._shown.layer, **({"term": term} if term else {})}
        answer = await self._ask(place, "Computing an example", "lesson", named | self._image)
        if answer is None:
            return
        names = {one.name for one in block.layers}
        lessons = [
            (one, name) for one, layers in answer.values["terms"].items()
            for name in layers if name in names
        ]  # fmt: skip
        lesson = answer.values["lesson"]
        if lesson is None and lessons:
            with place:
                await self._lesson(*lessons[0])
            return
        with place:
            if lesson is None:
                note("There is no example for this block. Choose one with a convolution.")
                return
            if len(lessons) > 1:
                options = {f"{one} {name}": self._lesson_title(one, name) for one, name in lessons}
                choice = ui.select(options, value=f"{lesson['term']} {lesson['layer']}")
                choice.props["aria-label"] = "Step of the block"

                async def change() -> None:
                    await self._lesson_again(place, *str(choice.value).split(" ", 1))

                choice.on_value_change(change)
            lesson_view(lesson, answer.src)

    async def _lesson_again(self, place: ui.element, term: str, layer: str) -> None:
        place.clear()
        with place:
            await self._lesson(term, layer)

    def _lesson_title(self, term: str, layer: str) -> str:
        is_last = term in ("dropout", "softmax")
        return term.capitalize() if is_last else title_of(self._layers[layer])

    async def _why(self) -> None:
        """Show heat maps with their checks, and the most similar training photographs."""
        place = ui.element("div").classes("stack")
        text = "Drawing heat maps, about a minute"
        answer = await self._ask(place, text, "explain", self._image, stop=True)
        if answer is None:
            return
        values = answer.values
        with place:
            for text in values["notes"]:
                note(text)
            with ui.element("div").classes("heat"):
                for heat in values["maps"]:
                    with ui.element("div").classes("stack"):
                        method = METHODS[heat["method"]]
                        framed(answer.src(heat["image"]), f"Heat map: {method.title}")
                        word(method.title)
                        verdict = ui.label(safe(heat["verdict"].capitalize()))
                        verdict.classes("right" if heat["trusted"] else "wrong")
                        note(" ".join([method.what, *heat["notes"]]))
                if "without" in values:
                    framed(answer.src(values["without"]), values["part"], values["part"])
            if "part" in values and "without" not in values:
                note(f"{values['part']}.")
            if "nearest" in values:
                heading(values["near"], 3)
                images = [
                    GalleryImage(answer.src(one["image"]), one["class"], one["class"])
                    for one in values["nearest"]
                ]
                ImageGallery("The most similar training photographs", images)

    def _structure(self) -> None:
        """List all layers."""
        rows = [
            {"id": layer.name, "block": block.title, "kind": title_of(layer), "name": layer.name,
             "shape": shape_in_words(layer), "parameters": layer.parameters,
             "work": layer.multiply_adds}
            for block in self._blocks for layer in block.layers
        ]  # fmt: skip
        columns = [
            Column("block", "Block", text=True), Column("kind", "Layer", text=True),
            Column("name", "Name", text=True, hidden=True), Column("shape", "Gives", text=True),
            Column("parameters", "Parameters"), Column("work", "Multiply-adds"),
        ]  # fmt: skip
        table(columns, rows, "Layers of the network")

    async def _choose(self) -> None:
        """Offer one's own photograph, and those that the classifier was judged by."""
        self._dialog.clear()
        with (
            self._dialog,
            ui.card().classes("stack").style("width: min(960px, 94vw); max-width: none"),
        ):
            self._dialog.props["aria-label"] = "Choose a photograph"
            with ui.element("div").classes("line"):
                heading("Choose a photograph")
                ui.space()
                icon_action("close", "Close", self._dialog.close)
            status = StatusLine()

            async def take(files: list[SentFile]) -> None:
                with status.errors():
                    content = await UPLOADS.run(self._studio.uploads.take, files[0]["key"])
                    key = self._studio.tried.put(content, files[0]["name"])
                    await self._studio.tried.answer(self._run, key)  # or it is refused here
                    self._dialog.close()
                    await self.show(image=f"kept/{key}")

            Intake("A photograph of your own", multiple=False, accept=IMAGES,
                   batch=secrets.token_hex(8), on_all=take)  # fmt: skip
            place = ui.element("div").classes("stack")
        self._dialog.open()
        await self._judged(place, status)

    async def _judged(self, place: ui.element, status: StatusLine) -> None:
        """Show the photographs that the classifier was judged by, mistakes first."""
        judged = self._classifier.judged
        if judged is None:
            return
        with status.errors():
            opened = await self._studio.opened.of_run(self._run)
            order = [*judged.surest(~judged.right), *judged.surest(judged.right)]

            def fetch(low: int, high: int) -> list[GalleryImage]:
                images = []
                for at in order[low:high]:
                    said, actual = (
                        opened.classes[codes[at]] for codes in (judged.answers, judged.labels)
                    )
                    right = bool(judged.right[at])
                    caption = said if right else f"{actual}, taken for {said}"
                    address = opened.address(int(judged.rows[at]))
                    mark: Mark = "right" if right else "wrong"
                    images.append(GalleryImage(address, caption, caption, mark))
                return images

            async def choose(position: int) -> None:
                self._dialog.close()
                await self.show(image=f"{self._classifier.part}/{order[position]}")

            with place:
                heading("Or one that it was judged by", 3)
                ImageGallery("Photographs, mistakes first", fetch(0, 60), count=len(order),
                             fetch=fetch, on_open=choose, side=120, height=420)  # fmt: skip
