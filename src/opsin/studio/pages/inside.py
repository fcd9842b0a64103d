"""Look inside: what each block of a network makes of a photograph."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from nicegui import ui

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.artifacts.run_report import Report
from opsin.core.errors import ModelFileError, MovedError, OpsinError
from opsin.core.format import count, counted
from opsin.core.glossary import term_of_layer
from opsin.core.metadata import Layer, LayerOp
from opsin.data.run_images import recipe_of_run
from opsin.report.inside.decision_sections import METHODS
from opsin.report.inside.layer_sections import figure
from opsin.studio.context import Studio
from opsin.studio.datasets.uploads import SentFile
from opsin.studio.pages.page import Page
from opsin.studio.pages.verdicts import classifier_select
from opsin.studio.projects import Project
from opsin.studio.runs.workers import Answer
from opsin.studio.threads import IMAGES, UPLOADS
from opsin.studio.ui import intake, kit, layout
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.graph import Block, NetworkGraph, blocks_of, shape_in_words, title_of
from opsin.studio.ui.lesson import convolution_view
from opsin.studio.ui.maps import answer_view, bars, framed, in_percent
from opsin.studio.words import of_photographs, safe

_PLACE: Final = re.compile(r"[0-9]{1,9}")
_KEPT: Final = re.compile(r"[0-9a-f]{16}")
# Seconds that looking for a unit's photographs may take, and the fewest of them that say something.
_SHORT, _FEW = 10.0, 100
# Errors of the worker in words of the page.
_WORDS: Final = {
    MovedError: "The photographs of this classifier were moved.",
    ModelFileError: "This part of the network cannot be shown: the classifier's file is damaged, "
    "or has no such part. Choose another block; if that fails too, train again.",
}
# The figures of a map, as the worker calls them.
_FIGURES: Final = {"Highest": "high", "Lowest": "low", "Mean": "mean"}
# A question that an address may unfold.
_WHY: Final = "Why this answer?"
# Back and forward lead to what was shown then.
_BACK: Final = "<script>addEventListener('popstate', () => location.reload())</script>"


class _Shown(NamedTuple):
    """A photograph, by its key or its place among those judged, a layer, and one of its units."""

    image: str
    layer: str
    unit: str = ""


def rows_judged(run: RunDirectory) -> list[int]:
    """The rows of the images that judged a run, the surest mistakes first; or it raises."""
    part = run.read(Report).split
    recipe_of_run(run)
    judged = RunPredictions.read(run).of(part)
    order = [*judged.surest(~judged.right), *judged.surest(judged.right)]
    return [int(row) for row in judged.rows[order]]


def checked(shown: _Shown, blocks: Sequence[Block], judged: int) -> _Shown:
    """What an address names, what means nothing replaced; there are so many judged images."""
    image, layer, unit = shown
    if not any(layer == one.name for block in blocks for one in block.layers):
        layer = blocks[blocks[0].title == "Input" and len(blocks) > 1].result.name
    if not _KEPT.fullmatch(image):
        at = int(image) if _PLACE.fullmatch(image) else 0
        image = str(min(at, judged - 1)) if judged else ""
    return _Shown(image, layer, unit)


@Page("/projects/{project}/inside")
async def inside(
    studio: Studio,
    *,
    project: str,
    run: str = "",
    image: str = "",
    layer: str = "",
    unit: str = "",
    view: str = "",
) -> None:
    """Build it."""
    now, guide = await IMAGES.run(studio.projects.get, project), "how-to/inspect.html"
    with layout.page(studio, "Look inside", project=now, here="inside", guide=guide) as frame:
        row = now.classifier(run)
        if row is None:
            words = "Train a classifier, and you can look inside it here."
            kit.empty(words, "Train", layout.address(now, "train"))
            return
        ui.add_head_html(_BACK)
        rows = list[int]()
        try:
            rows = await IMAGES.run(lambda: rows_judged(studio.runs.get(row.id)))
        except MovedError as error:
            kit.error_line(error)
        except OpsinError:
            pass
        with frame.actions:
            classifier_select(now, row, now.classifiers, "inside")
        shown = _Shown(image, layer, unit if _PLACE.fullmatch(unit) else "")
        content = _Inside(studio, now, row.id, rows, shown)
        content.unfolded |= {_WHY} if view == "why" else set()
        ui.timer(0, content.start, once=True)


class _Inside:
    """The page below its heading: a photograph, the network, and what a layer makes of it."""

    def __init__(
        self, studio: Studio, project: Project, run: str, rows: Sequence[int], shown: _Shown
    ) -> None:
        self._studio, self._project, self._run, self._rows = studio, project, run, rows
        self._shown, self.unfolded = shown, set[str]()  # the questions that stay open
        self._blocks: list[Block] = []
        self._seconds = 1.0  # that an image takes
        with ui.element("div").classes("inside"):
            with ui.element("section").props('aria-label="Photograph"'):
                self._photo = ui.element("div").classes("stack")
                intake.Intake(
                    "A photograph of your own",
                    multiple=False,
                    accept=intake.IMAGES,
                    batch=secrets.token_hex(8),
                    on_all=self._take,
                    around=".page",
                ).classes("main")
                self._status = kit.StatusLine()
            self._network = ui.element("div")
            self._result = ui.element("section").classes("stack").props('aria-label="Maps"')

    async def start(self) -> None:
        answer = await self.ask(self._result, "Opening the network", "layers")
        if answer is None:
            return
        self._blocks = blocks_of([Layer.model_validate(one) for one in answer.values["layers"]])
        self._shown = checked(self._shown, self._blocks, len(self._rows))
        with self._network:
            self._graph = NetworkGraph(
                self._blocks, self._shown.layer, lambda name: self.show(layer=name, unit="")
            )
        await self.show()

    async def _take(self, files: list[SentFile]) -> None:
        with self._status.errors():
            tried, name = self._studio.tried, files[0]["name"]
            key = tried.put(await UPLOADS.run(self._studio.uploads.take, files[0]["key"]), name)
            await tried.answer(self._run, key)  # or it is refused here
            await self.show(image=key)

    async def show(self, **changes: str) -> None:
        self._shown = self._shown._replace(**changes)
        image, layer, unit = self._shown
        if changes:
            asked = {"run": self._run, **self._shown._asdict()}
            ui.navigate.history.push(kit.rooted(layout.address(self._project, "inside", **asked)))
        if not self._blocks:  # the network could not be opened before
            await self.start()
            return
        self._graph.choose(layer)
        if not image:
            self._result.clear()
            with self._result:
                kit.empty("Choose a photograph to see what each block of the network makes of it.")
            return
        options: dict[str, Any] = {"layer": layer} | ({"unit": int(unit)} if unit else {})
        answer = await self.ask(self._result, "Computing the maps", "maps", **options)
        if answer is not None:
            self._seconds = max(1e-4, answer.values["seconds"])
            self._photo.clear()
            with self._photo:
                self._show_photograph(answer)
            self._result.clear()
            with self._result:
                await self._show_layer(answer)

    async def ask(self, area: ui.element, text: str, do: str, **options: Any) -> Answer | None:
        """Ask the worker about the photograph; show progress and errors in an area of the page.

        There is no answer if the page shows something else by then.
        """
        if area.is_deleted:
            return None
        wanted = self._shown

        async def answer() -> Answer:
            given = None
            if do not in ("layers", "unit"):
                if _KEPT.fullmatch(wanted.image):
                    given = self._studio.tried.get(wanted.image)
                else:
                    options["image"] = f"out_of_fold/{self._rows[int(wanted.image)]}"
            tell, ask = waiting.tell, self._studio.inside.ask
            return await ask(self._run, do, given, on_progress=tell, **options)

        asked = asyncio.create_task(answer())
        with area:
            waiting = kit.Waiting(text, asked.cancel)
        waiting.element.move(area, target_index=0)
        with waiting:
            await asyncio.wait([asked])
        error = None if asked.cancelled() else asked.exception()
        if area.is_deleted or wanted != self._shown:
            return None
        if not asked.cancelled() and not isinstance(error, OpsinError):
            return asked.result()
        area.clear()
        with area:
            if isinstance(error, OpsinError):
                kit.error_line(_WORDS.get(type(error)) or error)
            else:
                kit.note("Stopped. Choose a block to go on.")
        return None

    def _show_photograph(self, answer: Answer) -> None:
        short, (tall, wide) = answer.values["answer"], answer.values["size"]
        nearest, actual = short["top"][0][0], short["actual"]
        framed(answer.src(answer.values["image"]), f"The photograph, {wide}×{tall} pixels")
        label = answer_view(short["top"], rejected=short["rejected"], size="answer")
        if actual is not None and not short["rejected"]:
            label.classes("right" if actual == nearest else "wrong")
        if actual not in (None, nearest):
            kit.note(f"Its label is {safe(actual, 60)}.")
        if not _KEPT.fullmatch(self._shown.image):
            at, total = int(self._shown.image), len(self._rows)
            with ui.element("div").classes("line"):
                self._steps("image", "photograph", at, total)
                kit.note(f"{count(at + 1)} of {count(total)}, mistakes first")

    def _steps(self, name: str, what: str, at: int, total: int) -> None:
        for which, icon, to in (("Previous", "left", at - 1), ("Next", "right", at + 1)):
            kit.icon_action(
                f"chevron_{icon}", f"{which} {what}", lambda to=to: self.show(**{name: str(to)})
            ).set_enabled(0 <= to < total)

    async def _show_layer(self, answer: Answer) -> None:
        values, layers = answer.values, [one for block in self._blocks for one in block.layers]
        layer = next(layer for layer in layers if layer.name == self._shown.layer)
        block = next(block for block in self._blocks if layer in block.layers)
        with ui.element("div").classes("line"):
            kit.heading(block.title)
            if title_of(layer) != block.title:
                kit.word(title_of(layer), term_of_layer(layer.kind))
            number = sum(layer.parameters for layer in block.layers)
            parameters = f" · {count(number)} parameters in this block" if number else ""
            kit.note(f"{shape_in_words(layer)}{parameters}")
        if not any(one.op in (LayerOp.CONV, LayerOp.DENSE) for one in layers):
            kit.note("A model without layers: the blocks are its steps.")
        if self._shown.unit:
            await self._show_unit(answer)
            return
        if values["maps"]:
            signed = "Purple is above 0, orange below"
            bright = "Bright is where a map finds something" if values["low"] == "0" else signed
            sees = of_photographs(values["sees"])
            kit.note(f"{bright}; each place sees {sees}. Click a map to see it alone.")
            with ui.element("div").classes("scale note"):
                ui.label(values["low"])
                stops = ", ".join(values["stops"])
                ui.element("i").style(f"background: linear-gradient(90deg, {stops})")
                ui.label(values["high"])
        elif layer is layers[-1]:
            kit.note("One score for each class; the highest gives the answer.")
        self._add_units(answer, ui.element("div").classes("stack"), ui.element("div"))

        def ask(title: str, build: Callable[[ui.element], object]) -> None:
            fold = kit.question(
                title,
                lambda: build(ui.element("div").classes("stack")),
                is_open=title in self.unfolded,
            )
            change = {True: self.unfolded.add, False: self.unfolded.discard}
            fold.on_value_change(lambda event: change[event.value](title))

        ask(
            "How does this block compute?", lambda area: self._lesson(area, block, layer=layer.name)
        )
        ask(_WHY, self._explain)

    def _add_units(
        self, answer: Answer, area: ui.element, more: ui.element, first: int = 0
    ) -> None:
        """Show some more of a layer's units, and how to see the next ones."""
        values = answer.values
        units, total = values["units"], values["total"]
        shown = first + len(units)

        def choose(at: int) -> Any:
            return self.show(unit=str(units[at]["unit"]))

        with area:
            if values["maps"]:
                with ui.element("div").classes("maps"):
                    for at, unit in enumerate(units):
                        text = f"Map {unit['unit']}, up to {figure(unit['high'])}"
                        with ui.element("button").props('type="button"') as button:
                            image = ui.element("img").classes("pixel").props('loading="lazy"')
                        button.props["title"] = text
                        button.on("click", lambda at=at: choose(at))
                        src = kit.rooted(answer.src(unit["image"]))
                        image.props.update({"src": src, "alt": text})
            else:
                largest = max((abs(unit["high"]) for unit in units), default=0.0) or 1.0
                names = dict(enumerate(values["names"]))
                highs = [(unit["unit"], unit["high"]) for unit in units]
                rows = [(names.get(n, f"Unit {n}"), v / largest, figure(v)) for n, v in highs]
                bars(rows, choose)
        more.clear()

        async def show_more() -> None:
            more.clear()
            following = await self.ask(
                more, "Computing the maps", "maps", layer=self._shown.layer, first=shown
            )
            if following is not None:
                self._add_units(following, area, more, shown)

        if shown < total:
            with more:
                kit.action(f"Show more ({count(total - shown)} left)", show_more)

    async def _show_unit(self, answer: Answer) -> None:
        """Show one unit alone: its map beside the photograph, its numbers, what it looks for."""
        values = answer.values
        (unit,), total, is_map = values["units"], values["total"], values["maps"]
        number = unit["unit"]
        with ui.element("div").classes("line"):
            back = f"All {count(total)} {'maps' if is_map else 'numbers'}"
            kit.action(back, lambda: self.show(unit=""), icon="arrow_back")
            self._steps("unit", "map" if is_map else "number", number, total)
        facts = [("Number", str(number)), ("Value", figure(unit["high"]))]
        if is_map:
            name, (row, column) = f"Map {number}", unit["place"]
            box = in_percent(unit["box"], values["size"])
            with ui.element("div").classes("pair"):
                framed(answer.src(unit["image"]), name, name)
                words = "Framed: where it is strongest"
                framed(answer.src(values["image"]), "The photograph", words, [box])
            facts = [(key, figure(unit[of])) for key, of in _FIGURES.items()]
            facts += [
                ("Strongest at", f"row {row + 1}, column {column + 1}"),
                ("Sees", of_photographs(values["sees"])),
            ]
        kit.facts(facts)
        if self._rows:
            kit.heading("What it looks for", 3)
            limit, area = max(_FEW, int(_SHORT / self._seconds)), ui.element("div").classes("stack")
            asked = {"layer": self._shown.layer, "unit": number, "limit": limit}
            found = await self.ask(area, "Looking at the training photographs", "unit", **asked)
            if found is not None:
                with area:
                    _show_best(found, values["size"])

    async def _lesson(self, area: ui.element, block: Block, **asked: str) -> None:
        """Show the real numbers of a convolution, or else of another one of its block."""
        answer = await self.ask(area, "Computing an example", "lesson", **asked)
        if answer is None:
            return
        lesson, known = answer.values["lesson"], answer.values["terms"].get("convolution", ())
        others = [layer.name for layer in block.layers if layer.name in known]
        with area:
            if lesson is not None and lesson["term"] == "convolution":
                convolution_view(lesson, answer.src)
            elif others:
                await self._lesson(area, block, term="convolution", layer=others[0])
            else:
                kit.note("There is no example for this block. Choose one with a convolution.")

    async def _explain(self, area: ui.element) -> None:
        """Show heat maps with their checks, and the most similar training photographs."""
        answer = await self.ask(area, "Drawing heat maps", "explain")
        if answer is None:
            return
        values = answer.values
        with area:
            for text in values["notes"]:
                kit.note(text)
            with ui.element("div").classes("heat"):
                for heat in values["maps"]:
                    method = METHODS[heat["method"]]
                    with ui.element("div").classes("stack"):
                        framed(answer.src(heat["image"]), f"Heat map: {method.title}")
                        kit.word(method.title)
                        verdict = ui.label(safe(heat["verdict"].capitalize()))
                        verdict.classes("right" if heat["trusted"] else "wrong")
                        kit.note(of_photographs(" ".join([method.what, *heat["notes"]])))
                if "without" in values:
                    framed(answer.src(values["without"]), values["part"], values["part"])
            if "part" in values and "without" not in values:
                kit.note(f"{values['part']}.")
            if "nearest" in values:
                kit.heading(of_photographs(values["near"]), 3)
                near = [(one["image"], one["class"]) for one in values["nearest"]]
                images = [GalleryImage(answer.src(at), class_, class_) for at, class_ in near]
                ImageGallery("The most similar training photographs", images)


def _show_best(answer: Answer, size: tuple[int, int]) -> None:
    """The training photographs that activate a unit most, each with the part that it sees."""
    values = answer.values
    if values["constant"]:
        kit.note("It gives the same number for every photograph: it has learnt nothing.")
        return
    total = counted(sum(number for _, number in values["mix"]), "photograph")
    mix = [f"{number} {'is' if number == 1 else 'are'} {name}" for name, number in values["mix"]]
    kit.note(f"Of the {total} that activate it most, {', '.join(mix[:3])}.")
    with ui.element("div").classes("seen-best"):
        for best in values["best"]:
            with ui.element("div"):
                title = f"{best['class']} · {figure(best['value'])}"
                boxes = [in_percent(best["box"], size)] if best["box"] else []
                framed(answer.src(best["image"]), f"Photograph of {best['class']}", title, boxes)
                if best["patch"] is not None:
                    framed(answer.src(best["patch"]), "The part that it sees")
    if (seen := values["images"]) < values["total"]:
        kit.note(f"The best of {count(seen)} of its {count(values['total'])} photographs.")
