"""What else can be asked about a block and a photograph: each a question that unfolds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nicegui import ui

from opsin.report.inside.decision_sections import METHODS
from opsin.studio.runs.workers import Answer
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.graph import Block, shape_in_words, title_of
from opsin.studio.ui.kit import heading, note, question
from opsin.studio.ui.lesson import LESSONS, lesson_view
from opsin.studio.ui.maps import framed
from opsin.studio.ui.tables import table
from opsin.studio.ui.terms import word
from opsin.studio.words import safe

#: A question that an address may unfold.
WHY: Final = "Why this answer?"
#: Asks the worker: area of the progress, text, verb, how to do it again, options.
Ask = Callable[..., Awaitable[Answer | None]]


def questions(
    ask: Ask, blocks: Sequence[Block], block: Block, layer: str, unfolded: set[str]
) -> None:
    """Show them for a layer and a photograph; ``unfolded`` keeps those that are open."""

    def show(title: str, build: Callable[[ui.element], object]) -> None:
        fold = question(title, lambda: build(ui.element("div").classes("stack")),
                        is_open=title in unfolded)  # fmt: skip
        change = {True: unfolded.add, False: unfolded.discard}
        fold.on_value_change(lambda event: change[event.value](title))

    show("How does this block compute?", lambda area: _lesson(ask, area, block, layer=layer))
    show(WHY, lambda area: _explain(ask, area))
    show("How is the network built?", lambda _: _structure(blocks))


async def _lesson(ask: Ask, area: ui.element, block: Block, **asked: str) -> None:
    """Show the real numbers of a layer, or else of another one of its block."""
    answer = await ask(area, "Computing an example", "lesson", **asked)
    if answer is None:
        return
    lesson, terms = answer.values["lesson"], answer.values["terms"]
    with area:
        if lesson is not None and lesson["term"] in LESSONS:
            lesson_view(lesson, answer.src)
            return
    for layer in block.layers:
        for term in LESSONS:
            if layer.name in terms.get(term, ()):
                await _lesson(ask, area, block, term=term, layer=layer.name)
                return
    with area:
        note("There is no example for this block. Choose one with a convolution.")


async def _explain(ask: Ask, area: ui.element) -> None:
    """Show heat maps with their checks, and the most similar training photographs."""
    area.clear()
    answer = await ask(area, "Drawing heat maps", "explain", lambda: _explain(ask, area))
    if answer is None:
        return
    values = answer.values
    with area:
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
            heading(values["near"].replace("training image", "training photograph"), 3)
            ImageGallery("The most similar training photographs", [
                GalleryImage(answer.src(near["image"]), near["class"], near["class"])
                for near in values["nearest"]
            ])  # fmt: skip


def _structure(blocks: Sequence[Block]) -> None:
    """List all layers."""
    rows = [
        {"id": layer.name, "Block": block.title, "Layer": title_of(layer), "Name": layer.name,
         "Gives": shape_in_words(layer), "Parameters": layer.parameters,
         "Multiply-adds": layer.multiply_adds}
        for block in blocks for layer in block.layers
    ]  # fmt: skip
    table(rows, "Layers of the network", hidden=("Name",))
