"""Look inside: what each block of a network makes of a photograph."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any, Final, NamedTuple

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import PartPredictions, RunPredictions
from opsin.core.artifacts.run_report import Report
from opsin.core.child_process import Header
from opsin.core.errors import ModelFileError, MovedError, OpsinError
from opsin.core.format import about, count, counted, percent
from opsin.core.glossary import term_of_layer
from opsin.core.metadata import Layer, LayerOp
from opsin.data.run_images import recipe_of_run
from opsin.report.inside.layer_sections import figure
from opsin.studio.context import Studio
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.pages.inside_questions import WHY, questions
from opsin.studio.pages.page import Page
from opsin.studio.projects import Project
from opsin.studio.runs.workers import Answer
from opsin.studio.threads import IMAGES, UPLOADS
from opsin.studio.ui import intake, kit, layout
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.graph import NetworkGraph, blocks_of, shape_in_words, title_of
from opsin.studio.ui.maps import bars, framed, in_percent
from opsin.studio.ui.terms import word
from opsin.studio.ui.waiting import Waiting
from opsin.studio.words import safe

_PLACE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_KEPT: Final = re.compile(r"[0-9a-f]{16}")
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


class _Shown(NamedTuple):
    """A photograph, by its place among those judged or its key, a layer, and one of its units."""

    image: str
    layer: str
    unit: str = ""


class _Results(NamedTuple):
    """The layers, unless it was imported without a report, and the images that judged it."""

    layers: list[Layer]
    judged: PartPredictions | None = None
    moved: MovedError | None = None


def _read(directory: RunDirectory) -> _Results:
    results = _Results([])
    try:
        report = directory.read(Report)
        results = _Results(report.layers)
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
    now = await IMAGES.run(studio.projects.get, project)
    with layout.page(
        studio, "Look inside", project=now, here="inside", guide="how-to/inspect.html"
    ) as frame:
        row = now.classifier(run)
        if row is None:
            words = "Train a classifier, and you can look inside it here."
            kit.empty(words, "Train", layout.address(now, "train"))
            return
        ui.add_head_html(_BACK)
        results = await IMAGES.run(lambda: _read(studio.runs.get(row.id)))
        unit = unit if _PLACE.fullmatch(unit) else ""
        body = _Inside(studio, now, row.id, results, _Shown(image, layer, unit))
        body.build(frame, unfolded=WHY if view == "why" else "")
        ui.timer(0, body.start, once=True)


PAGE = Page("/projects/{project}/inside", inside)


class _Inside:
    """The page below its heading."""

    def __init__(
        self, studio: Studio, project: Project, run: str, results: _Results, shown: _Shown
    ) -> None:
        self._studio, self._project, self._run, self._shown = studio, project, run, shown
        self._layers, self._judged, self._moved = results
        self._seconds = 1.0  # that an image takes
        self._graph: NetworkGraph | None = None

    def build(self, frame: layout.Frame, unfolded: str) -> None:
        """Show what takes no time."""
        self._unfolded = {unfolded}  # questions, for the next layer too
        rows = {row.id: safe(self._project.title_of(row), 60) for row in self._project.classifiers}
        self._dialog = ui.dialog().props('aria-label="Choose a photograph"')
        with frame.actions:
            if len(rows) > 1:
                choice = ui.select(rows, value=self._run, label="Classifier")
                choice.on_value_change(lambda event: ui.navigate.to(
                    layout.address(self._project, "inside", run=event.value)
                ))  # fmt: skip
            kit.action("Choose a photograph", self._choose, kind="primary", icon="add_a_photo")
        if self._moved is not None:
            kit.error_line(self._moved)
        with ui.element("div").classes("inside") as self._body:
            ui.skeleton(height="240px")

    async def start(self) -> None:
        """Show the network, and what the address names."""
        if not self._layers:
            answer = await self.ask(self._body, "Opening the network", "layers")
            if answer is None:
                return
            self._layers = list(map(Layer.model_validate, answer.values["layers"]))
        self._check()
        self._body.clear()
        with self._body:
            self._photo = ui.element("section").props('aria-label="Photograph"')
            self._graph = NetworkGraph(
                self._blocks, self._shown.layer, lambda name: self.show(layer=name, unit="")
            )
            self._result = ui.element("section").classes("stack").props('aria-label="Maps"')
        await self.show()

    def _check(self) -> None:
        """Replace what means nothing in the address."""
        self._blocks = blocks = blocks_of(self._layers)
        image, layer, unit = self._shown
        if not any(layer == one.name for one in self._layers):
            layer = blocks[blocks[0].title == "Input" and len(blocks) > 1].result.name
        if not _KEPT.fullmatch(image):
            at = int(image) if _PLACE.fullmatch(image) else 0
            image = str(min(at, len(self._judged.rows) - 1)) if self._judged else ""
        self._shown = _Shown(image, layer, unit)

    async def show(self, **changes: str) -> None:
        """Show another photograph, layer or unit."""
        if changes:
            self._shown = self._shown._replace(**changes)
            asked = {"run": self._run, **self._shown._asdict()}
            there = layout.address(self._project, "inside", **asked)
            ui.navigate.history.push(kit.rooted(there))
            if self._graph is None:  # the network could not be opened before
                await self.start()
                return
            self._graph.choose(self._shown.layer)
        image, layer, unit = self._shown
        if not image:
            self._result.clear()
            with self._result:
                kit.empty("Choose a photograph to see what each block of the network makes of it.")
            return
        options = {"unit": int(unit)} if unit else {}
        answer = await self.ask(self._result, "Computing the maps", "maps", layer=layer, **options)
        if answer is not None:
            self._seconds = max(1e-4, answer.values["seconds"])
            self._show_photograph(answer)
            self._result.clear()
            with self._result:
                await self._show_layer(answer)

    async def ask(
        self, area: ui.element, text: str, do: str, again: kit.Handler | None = None,
        **options: Any,
    ) -> Answer | None:  # fmt: skip
        """Ask the worker about the photograph; show progress and errors in an area of the page.

        Work that takes long can be stopped, and done ``again``. There is no answer if the page
        shows something else by then.
        """
        wanted = self._shown
        if area.is_deleted:
            return None

        async def answer() -> Answer:
            given = None
            if do not in ("layers", "unit"):
                if _KEPT.fullmatch(wanted.image):
                    given = self._studio.tried.get(wanted.image)
                elif self._judged is not None:
                    options["image"] = f"out_of_fold/{self._judged.rows[int(wanted.image)]}"
            ask = self._studio.inside.ask
            return await ask(self._run, do, given, on_progress=waiting.tell, **options)

        asked = asyncio.create_task(answer())
        with area:
            waiting = Waiting(text, asked.cancel if again else None)
        waiting.element.move(area, target_index=0)
        await asyncio.wait([asked])
        waiting.delete()
        error = None if asked.cancelled() else asked.exception()
        if not isinstance(error, OpsinError | None):
            raise error
        if area.is_deleted or wanted != self._shown:
            return None
        if error is None and not asked.cancelled():
            return asked.result()
        area.clear()
        with area:
            if error is None:
                kit.note("Stopped.")
            else:
                kit.error_line(_WORDS.get(type(error)) or kit.without_commands(str(error)))
            if again:
                kit.action("Start again", again).classes("self-start")
        return None

    def _show_photograph(self, answer: Answer) -> None:
        short, (tall, wide) = answer.values["answer"], answer.values["size"]
        (nearest, share), *_ = short["top"]
        actual = short["actual"]
        self._photo.clear()
        with self._photo:
            framed(answer.src(answer.values["image"]), f"The photograph, {wide}×{tall} pixels")
            label = ui.label(f"{safe(nearest, 60)}, {percent(share)}").classes("answer")
            label.props("role=status")
            if short["label"] != nearest:
                label.set_text("None of these")
                words = f"It looks unlike the training photographs. Nearest: {safe(nearest, 60)}."
                kit.note(words)
            elif actual is not None:
                label.classes("right" if actual == nearest else "wrong")
            if actual not in (None, nearest):
                kit.note(f"You sorted it as {safe(actual, 60)}.")
            bars([(name, share, percent(share)) for name, share in short["top"]])
            if self._judged is not None and not _KEPT.fullmatch(self._shown.image):
                at, total = int(self._shown.image), len(self._judged.rows)
                with ui.element("div").classes("line"):
                    self._steps("image", "photograph", at, total)
                    kit.note(f"{count(at + 1)} of {count(total)}")

    def _steps(self, name: str, what: str, at: int, total: int) -> None:
        """Buttons for the photograph or the unit before and after."""
        for word, icon, to in (("Previous", "left", at - 1), ("Next", "right", at + 1)):
            kit.icon_action(
                f"chevron_{icon}", f"{word} {what}", lambda to=to: self.show(**{name: str(to)})
            ).set_enabled(0 <= to < total)

    async def _show_layer(self, answer: Answer) -> None:
        values = answer.values
        layer, block = next((layer, block) for block in self._blocks for layer in block.layers
                            if layer.name == self._shown.layer)  # fmt: skip
        with ui.element("div").classes("line"):
            kit.heading(block.title)
            if title_of(layer) != block.title:
                word(title_of(layer), term_of_layer(layer.kind))
            number = sum(layer.parameters for layer in block.layers)
            parameters = f" · {count(number)} parameters in this block" if number else ""
            kit.note(f"{shape_in_words(layer)}{parameters}")
        if not any(one.op in (LayerOp.CONV, LayerOp.DENSE) for one in self._layers):
            kit.note("A model without layers: the blocks are its steps.")
        if self._shown.unit:
            await self._show_unit(answer)
            return
        if values["maps"]:
            signed = "Purple is above 0, orange below"
            bright = "Bright is where a map finds something" if values["low"] == "0" else signed
            kit.note(f"{bright}; each place sees {values['sees']}. Click a map to see it alone.")
            with ui.element("div").classes("scale note"):
                ui.label(values["low"])
                stops = ", ".join(values["stops"])
                ui.element("i").style(f"background: linear-gradient(90deg, {stops})")
                ui.label(values["high"])
        elif layer is self._layers[-1]:
            kit.note("One score for each class; the highest gives the answer.")
        self._add_units(answer, ui.element("div").classes("stack"), ui.element("div"))
        questions(self.ask, self._blocks, block, layer.name, self._unfolded)

    def _add_units(
        self, answer: Answer, area: ui.element, more: ui.element, first: int = 0
    ) -> None:
        """Show some more of a layer's units, and how to see the next ones."""
        values = answer.values
        units, total = values["units"], values["total"]
        shown = first + len(units)
        with area:
            if values["maps"]:
                with ui.element("div").classes("maps"):
                    for unit in units:
                        self._map(answer, unit)
            else:
                largest = max((abs(unit["high"]) for unit in units), default=0.0) or 1.0
                names = dict(enumerate(values["names"]))
                rows = [(names.get(unit["unit"], f"Unit {unit['unit']}"), unit["high"] / largest,
                         figure(unit["high"])) for unit in units]  # fmt: skip
                bars(rows, lambda at: self.show(unit=str(units[at]["unit"])))
        more.clear()

        async def show_more() -> None:
            more.clear()
            following = await self.ask(more, "Computing the maps", "maps",
                                       layer=self._shown.layer, first=shown)  # fmt: skip
            if following is not None:
                self._add_units(following, area, more, shown)

        if shown < total:
            with more:
                kit.action(f"Show more ({count(total - shown)} left)", show_more)

    def _map(self, answer: Answer, unit: Header) -> None:
        text = f"Map {unit['unit']}, up to {figure(unit['high'])}"
        with ui.element("button").props('type="button"') as button:
            button.props["title"] = text
            button.on("click", lambda: self.show(unit=str(unit["unit"])))
            image = ui.element("img").classes("pixel").props('loading="lazy"')
            image.props.update({"src": kit.rooted(answer.src(unit["image"])), "alt": text})

    async def _show_unit(self, answer: Answer) -> None:
        """Show one unit alone: its map beside the photograph, its numbers, what it looks for."""
        values = answer.values
        (unit,), total, is_map = values["units"], values["total"], values["maps"]
        number = unit["unit"]
        with ui.element("div").classes("line"):
            kit.action(f"All {count(total)} {'maps' if is_map else 'numbers'}",
                       lambda: self.show(unit=""), icon="arrow_back")  # fmt: skip
            self._steps("unit", "map" if is_map else "number", number, total)
        if is_map:
            name, (row, column) = f"Map {number}", unit["place"]
            with ui.element("div").classes("pair"):
                framed(answer.src(unit["image"]), name, name)
                framed(answer.src(values["image"]), "The photograph",
                       "Framed: where it is strongest",
                       [in_percent(unit["box"], values["size"])])  # fmt: skip
            kit.facts([
                ("Highest", figure(unit["high"])), ("Lowest", figure(unit["low"])),
                ("Mean", figure(unit["mean"])),
                ("Strongest at", f"row {row + 1}, column {column + 1}"), ("Sees", values["sees"]),
            ])  # fmt: skip
        else:
            kit.facts([("Number", str(number)), ("Value", figure(unit["high"]))])
        if self._judged is not None:
            kit.heading("What it looks for", 3)
            limit = max(_FEW, int(_SHORT / self._seconds))
            await self._look_for(ui.element("div").classes("stack"), values["size"], limit=limit)

    async def _look_for(self, area: ui.element, size: tuple[int, int], **limit: int) -> None:
        """Show the training photographs that activate a unit most, of some or of all."""
        area.clear()
        unit = int(self._shown.unit)
        answer = await self.ask(
            area, "Looking at the training photographs", "unit",
            lambda: self._look_for(area, size, **limit), layer=self._shown.layer, unit=unit,
            **limit,
        )  # fmt: skip
        if answer is None:
            return
        values = answer.values
        seen, total = values["images"], values["total"]
        with area:
            if values["constant"]:
                kit.note("It gives the same number for every photograph: it has learnt nothing.")
            else:
                best = counted(sum(number for _, number in values["mix"]), "photograph")
                mix = [f"{number} {'is' if number == 1 else 'are'} {name}"
                       for name, number in values["mix"][:3]]  # fmt: skip
                kit.note(f"Of the {best} that activate it most, {', '.join(mix)}.")
                with ui.element("div").classes("seen-best"):
                    for one in values["best"]:
                        _best(answer, one, size)
            if seen < total:
                kit.note(f"The best of {count(seen)} of its {count(total)} photographs.")
                text = f"Look at all of them (about {about(self._seconds * total)})"
                kit.action(text, lambda: self._look_for(area, size)).classes("self-start")

    async def _choose(self) -> None:
        """Offer photographs: one's own, or those that it was judged by, mistakes first."""
        studio, dialog, judged = self._studio, self._dialog, self._judged

        async def choose(image: str) -> None:
            dialog.close()
            await self.show(image=image)

        async def take(files: list[SentFile]) -> None:
            with status.errors():
                content = await UPLOADS.run(studio.uploads.take, files[0]["key"])
                key = studio.tried.put(content, files[0]["name"])
                await studio.tried.answer(self._run, key)  # or it is refused here
                await choose(key)

        dialog.clear()
        with dialog, ui.card().classes("stack").style("width: min(960px, 94vw); max-width: none"):
            with ui.element("div").classes("line"):
                kit.heading("Choose a photograph")
                ui.space()
                kit.icon_action("close", "Close", dialog.close)
            status = kit.StatusLine()
            intake.Intake("A photograph of your own", multiple=False, accept=intake.IMAGES,
                          batch=secrets.token_hex(8), on_all=take)  # fmt: skip
            area = ui.element("div").classes("stack")
        dialog.open()
        if judged is None:
            return
        with status.errors():
            images = await studio.opened.of_run(self._run)
            order = [*judged.surest(~judged.right), *judged.surest(judged.right)]

            def describe(at: int) -> GalleryImage:
                label, actual = (images.classes[labels[at]]
                                 for labels in (judged.answers, judged.labels))  # fmt: skip
                caption = label if judged.right[at] else f"{actual}, taken for {label}"
                address = images.address(int(judged.rows[at]))
                return GalleryImage(
                    address, caption, caption, "right" if judged.right[at] else "wrong"
                )

            if not area.is_deleted:
                with area:
                    kit.heading("Or one that it was judged by", 3)
                    ImageGallery("Photographs, mistakes first", order, describe,
                                 on_open=lambda at: choose(str(order[at])), side=120,
                                 height=420)  # fmt: skip


def _best(answer: Answer, best: Header, size: tuple[int, int]) -> None:
    """A training photograph that activates a unit, with the part that it sees."""
    with ui.element("div"):
        framed(
            answer.src(best["image"]), f"Photograph of {best['class']}",
            f"{best['class']} · {figure(best['value'])}",
            [in_percent(best["box"], size)] if best["box"] else [],
        )  # fmt: skip
        if best["patch"] is not None:
            framed(answer.src(best["patch"]), "The part that it sees")
