"""The section on a layer's work, with its real numbers."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Pixels
from opsin.core.format import decimals
from opsin.data.pixel_values import png_address
from opsin.inspection.lessons.lesson_terms import SENTENCES
from opsin.report.inside.layer_sections import figure
from opsin.report.maps import PALETTES, indexed_address, scale_of
from opsin.report.templates import Section, section

if TYPE_CHECKING:
    from opsin.inspection.lessons.lesson_layers import Lesson

# Most numbers a side that are written as text.
_WRITTEN: Final = 7


@dataclass(frozen=True)
class _Picture:
    """Numbers as a table of cells if there are few, else as a picture."""

    title: str
    words: str  # the same for who cannot see it
    shape: tuple[int, int]
    rows: Sequence[Sequence[tuple[str, str, bool, bool]]] = ()  # text, colour, dark, marked
    address: str = ""
    boxes: Sequence[tuple[float, ...]] = ()  # what is framed: top, left, height, width in percent


def lesson_sections(lesson: Lesson, pixels: Pixels) -> list[Section]:
    """The section about a layer: signed numbers in orange and purple, activity in viridis."""
    title = f"{lesson.term.replace('-', ' ').capitalize()}: {lesson.layer}"
    return [
        section("lesson", title, "lesson.html", part=lesson.term, lesson=lesson, np=np,
                sentence=SENTENCES[lesson.term], image=png_address(pixels), number=figure,
                numbers=_picture, pictured=functools.partial(_picture, written=False),
                compact=functools.partial(json.dumps, separators=(",", ":")))
    ]  # fmt: skip


def _picture(
    title: str,
    values: NDArray[Any],
    among: NDArray[Any] | None = None,
    *,
    boxes: Sequence[tuple[tuple[int, int], tuple[int, int]]] = (),
    marked: Sequence[tuple[int, int]] = (),
    written: bool = True,
) -> _Picture:
    """Show numbers ``[H, W]`` in the colour scale of ``among``."""
    tall, wide = values.shape
    scaled = values if among is None else among
    scale = scale_of(float(scaled.min()), float(scaled.max()))
    places = scale.places(np.asarray(values, np.float32))
    low, high = (figure(float(end)) for end in (values.min(), values.max()))
    words = f"{title}: {tall} rows, {wide} columns, from {low} to {high}"
    if not written or max(tall, wide) > _WRITTEN:
        framed = [
            (100 * top / tall, 100 * left / wide, 100 * down / tall, 100 * across / wide)
            for (top, left), (down, across) in boxes
        ]
        address = indexed_address(places, scale.colours)
        return _Picture(title, words, (tall, wide), address=address, boxes=framed)
    colours, digits = PALETTES[scale.colours], decimals(float(np.abs(values).max()))

    def cell(row: int, column: int) -> tuple[str, str, bool, bool]:
        text = f"{values[row, column]:.{digits}f}".replace("-", "−")
        colour = colours[places[row, column]]
        # Whether white stands out more from the colour than black does (WCAG 2.2, contrast).
        dark = float((colour / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722)) < 0.179
        return text, f"#{colour.tobytes().hex()}", dark, (row, column) in marked

    rows = [[cell(row, column) for column in range(wide)] for row in range(tall)]
    return _Picture(title, words, (tall, wide), rows)
