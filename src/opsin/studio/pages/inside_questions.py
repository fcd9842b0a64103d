"""What else can be asked about a block and a photograph: each a question that unfolds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from nicegui import ui

from opsin.report.inside.decision_sections import METHODS
from opsin.studio.runs.inspection_sessions import InspectionAnswer
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.graph import Block, shape_in_words, title_of
from opsin.studio.ui.kit import heading, note, question
from opsin.studio.ui.lesson import lesson_view
from opsin.studio.ui.maps import framed
from opsin.studio.ui.tables import Column, table
from opsin.studio.ui.terms import word
from opsin.studio.words import safe

_WHY: Final = "Why this answer?"
#: Asks the worker: place of the progress, text, verb, options.
Ask = Callable[..., Awaitable[InspectionAnswer | None]]


class Questions:
    """The questions below a layer; those that were unfolded are so for the next layer, too."""

    def __init__(self, ask: Ask, blocks: Sequence[Block], *, explain: bool = False) -> None:
        self._ask, self._blocks = ask, blocks
        self._open = {_WHY} if explain else set[str]()

    def show(self, layer: str, image: dict[str, Any]) -> None:
        """Show them for a layer and a photograph."""
        self._layer, self._image = layer, image
        for title, build in (
            ("How does this block compute?", self._lesson),
            (_WHY, self._why),
            ("How is the network built?", self._structure),
        ):
            fold = question(title, build, is_open=title in self._open)
            fold.on_value_change(
                lambda event, title=title: (
                    self._open.add(title) if event.value else self._open.discard(title)
                )
            )

    async def _lesson(self) -> None:
        await self._show_lesson(ui.element("div").classes("stack"), {"layer": self._layer})

    async def _show_lesson(self, place: ui.element, asked: dict[str, Any]) -> None:
        """Show the real numbers of a layer of the block."""
        place.clear()
        answer = await self._ask(place, "Computing an example", "lesson", asked | self._image)
        if answer is None:
            return
        block = next(block for block in self._blocks if self._layer in block)
        lesson, terms = answer.values["lesson"], answer.values["terms"]
        steps = [{"term": term, "layer": layer.name} for layer in block.layers
                 for term in terms if layer.name in terms[term]]  # fmt: skip
        if lesson is None and steps:
            await self._show_lesson(place, steps[0])
            return
        with place:
            if lesson is None:
                note("There is no example for this block. Choose one with a convolution.")
                return
            if len(steps) > 1:
                titles = [_title(step, block) for step in steps]
                now = next(
                    (at for at, step in enumerate(steps) if step.items() <= lesson.items()), 0
                )
                choice = ui.select(dict(enumerate(titles)), value=now)
                choice.props["aria-label"] = "Step of the block"
                choice.on_value_change(lambda event: self._show_lesson(place, steps[event.value]))
            lesson_view(lesson, answer.src)

    async def _why(self) -> None:
        await self._explain(ui.element("div").classes("stack"))

    async def _explain(self, place: ui.element) -> None:
        """Show heat maps with their checks, and the most similar training photographs."""
        place.clear()
        text = "Drawing heat maps, about a minute"
        answer = await self._ask(place, text, "explain", self._image, lambda: self._explain(place))
        if answer is None:
            return
        values = answer.values
        with place:
            for text in values["notes"]:
                note(text)
            with ui.element("div").classes("heat"):
                for heat in values["maps"]:
                    method = METHODS[heat["method"]]
                    with ui.element("div").classes("stack"):
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
                heading(values["near"].replace("training images", "training photographs"), 3)
                ImageGallery("The most similar training photographs", [
                    GalleryImage(answer.src(image["image"]), image["class"], image["class"])
                    for image in values["nearest"]
                ])  # fmt: skip

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


def _title(step: dict[str, str], block: Block) -> str:
    if step["term"] in ("dropout", "softmax"):
        return step["term"].capitalize()
    return title_of(next(layer for layer in block.layers if layer.name == step["layer"]))
