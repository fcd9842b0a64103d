"""Sections on what layers make of an image, and on how a layer works."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Ints, Pixels
from opsin.core.format import counted, decimals
from opsin.data.pixel_values import png_address
from opsin.inspection.lessons.lesson_terms import SENTENCES
from opsin.onnx_files.operators import traits_of
from opsin.report.maps import (
    PALETTES,
    STOPS,
    Scale,
    gradient,
    indexed_address,
    scale_of,
    sprite,
)
from opsin.report.templates import Section, section

if TYPE_CHECKING:
    from opsin.inspection.activity import Activity, UnitActivity
    from opsin.inspection.layers import LayerView
    from opsin.inspection.lessons.windows import Lesson
    from opsin.onnx_files.onnx_graph import ReceptiveField

#: Maps or bars on a page of a layer; further pages are folded.
PAGE: Final = 64
# Maps in a row of the image that holds a page of maps; layers.css counts with it.
_COLUMNS: Final = 8
# Approximate screen pixels of a map's longer side in the grid, and the most.
_SIDE: Final = 56
_WIDEST: Final = 96
# Share of a layer's nonzero values within its scale; with fewer values than this, all are.
_WITHIN: Final = 0.995
_FEW: Final = 200
# Numbers of dead units that a sentence lists.
_LISTED: Final = 24


def figure(value: float) -> str:
    """A number with three significant digits."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")  # first, so that 0.9999 becomes 1.00, not 1.000
    size = abs(rounded)
    if size < 1e-4:
        text = f"{value:.0e}".replace("e-0", "e-")
    elif size >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{rounded:.{max(0, 2 - math.floor(math.log10(size)))}f}"
    return text.replace("-", "−")


def layer_sections(
    views: Sequence[LayerView],
    activity: Activity | None,
    pixels: Pixels,
    answer_bars: Sequence[tuple[str, float]],
    fields: Mapping[str, ReceptiveField | None],
) -> list[Section]:
    """The sections about an image: how it goes in, layer by layer, and the answer."""
    height, width, channels = pixels.shape
    size = f"{width} × {height} pixels, {'grey' if channels == 1 else 'colour'}"
    part = functools.partial(section, template="layers.html", width=width, height=height)
    title = "The image as the network sees it"
    sections = [part("image", title, part="image", address=png_address(pixels), size=size)]
    if views:
        active = {} if activity is None else activity.layers
        layers = [
            _Layer(number, view, active.get(view.name), fields.get(view.name), (height, width))
            for number, view in enumerate(views)
        ]
        palettes = {name: colours.ravel().tolist() for name, colours in PALETTES.items()}
        sections.append(
            part(
                "layers",
                "What each layer makes of it",
                part="layers",
                layers=layers,
                figure=figure,
                palettes=json.dumps(palettes),
                gradients={name: gradient(name) for name in STOPS},
                looked_at=activity.images if activity else 0,
            )
        )
    if answer_bars:
        best, share = max(answer_bars, key=lambda bar: bar[1])
        tables = [answer_bars[start : start + PAGE] for start in range(0, len(answer_bars), PAGE)]
        title = f"The softmax: {best}, {100 * share:.1f}%"
        sections.append(part("softmax", title, part="softmax", tables=tables, size=PAGE))
    return sections


@dataclass(frozen=True)
class _Page:
    """Up to 64 units, the strongest first; maps are laid together in one image."""

    anchor: str
    first: int
    units: list[int]
    image: str = ""
    places: str = ""
    columns: int = 0

    @property
    def rows(self) -> int:
        return -(-len(self.units) // self.columns)


def scale_of_view(view: LayerView) -> Scale:
    """The colour scale of a layer's values for one image."""
    low, high = view.minimum, view.maximum
    if view.values.ndim == 3:  # a few far values share the ends, so that others show
        sizes = np.abs(np.nan_to_num(view.values))
        sizes = sizes[sizes > 0]
        reach = float(np.quantile(sizes, _WITHIN)) if sizes.size > _FEW else np.inf
        low, high = max(low, -reach), min(high, reach)
    return scale_of(low, high)


class _Layer:
    """A layer on the page: its view, in colours and words."""

    def __init__(
        self,
        number: int,
        view: LayerView,
        units: UnitActivity | None,
        field: ReceptiveField | None,
        size: tuple[int, int],
    ) -> None:
        self.anchor, self.view, self.field, self.values = f"layer{number}", view, field, view.values
        self.is_map = view.values.ndim == 3
        self.scale = scale_of_view(view)
        self.sees = sees_in_words(field, size) if self.is_map else ""
        self.passing = traits_of(view.layer.op).passes_on
        self.marks = [""] * len(self.values)
        if units is not None and len(units.dead) == len(self.values):
            for mark, flags in (("saturated", units.saturated), ("dead", units.dead)):
                for unit in np.flatnonzero(flags):
                    self.marks[unit] = mark
        starts = range(0, len(view.order), PAGE)
        self.pages = [self._page(start, view.order[start : start + PAGE]) for start in starts]

    def _page(self, start: int, chosen: Ints) -> _Page:
        anchor, units = f"{self.anchor}-{start // PAGE}", [int(unit) for unit in chosen]
        if not self.is_map:
            return _Page(anchor, start + 1, units)
        maps = self.values[chosen]
        columns = min(_COLUMNS, len(chosen))
        address = indexed_address(sprite(self.scale.places(maps), columns), self.scale.colours)
        flat = np.nan_to_num(maps).reshape(len(chosen), -1)
        # The script's: unit, smallest and largest value, and the strongest place.
        places = [
            [unit, float(f"{row.min():.3g}"), float(f"{row.max():.3g}"), int(strongest)]
            for unit, row, strongest in zip(units, flat, np.abs(flat).argmax(axis=1), strict=True)
        ]
        encoded = json.dumps(places, separators=(",", ":"))
        return _Page(anchor, start + 1, units, address, encoded, columns)

    def said(self, unit: int) -> str:
        """A map's strength, or a dense unit's value."""
        return figure(
            self.view.strengths[unit] if self.is_map else np.nan_to_num(self.values[unit])
        )

    def width(self, unit: int) -> float:
        """The bar of a dense unit, in percent."""
        reach = max(abs(self.scale.low), abs(self.scale.high)) or 1.0
        return min(100.0, 100 * abs(float(np.nan_to_num(self.values[unit]))) / reach)

    @property
    def shape(self) -> str:
        units, *sides = self.values.shape
        if not self.is_map:
            return counted(units, "unit")
        return f"{counted(units, 'map')} of {sides[1]} × {sides[0]}"

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a map on the screen; places are whole pixels unless it is large."""
        tall, wide = self.values.shape[1:]
        side = max(tall, wide)
        zoom = max(1, round(_SIDE / side)) if side <= _WIDEST else 1 / math.ceil(side / _WIDEST)
        return wide * zoom, tall * zoom

    @property
    def low_end(self) -> str:
        return ("≤ " if self.view.minimum < self.scale.low else "") + figure(self.scale.low)

    @property
    def high_end(self) -> str:
        return ("≥ " if self.view.maximum > self.scale.high else "") + figure(self.scale.high)

    @property
    def histogram(self) -> str:
        """The bars as one path in a box of 32×24; heights go with the root of the counts."""
        counts = self.view.counts
        heights = 24 * np.sqrt(counts / max(1, counts.max(initial=1)))
        return "".join(
            f"M{index} 24v{-height:.3g}h1v{height:.3g}z"
            for index, height in enumerate(heights)
            if height
        )

    @property
    def places(self) -> str:
        """The receptive field, for the page's script."""
        field = self.field
        numbers = () if field is None else (field.height, field.width, *field.step, *field.start)
        return " ".join(map(str, numbers))

    @property
    def marked(self) -> list[str]:
        """Dead and saturated units in words; all are marked in the grid."""
        sentences = []
        for mark in ("dead", "saturated"):
            units = [str(unit) for unit, unit_mark in enumerate(self.marks) if unit_mark == mark]
            count = f"{len(units):,} of {len(self.marks):,} units {'are' if units[1:] else 'is'}"
            if len(units) > _LISTED:
                units = [*units[:_LISTED], f"{len(units) - _LISTED:,} more"]
            names = " and ".join([", ".join(units[:-1]), units[-1]] if units[1:] else units)
            sentences += [f"{count} {mark}: {names}."] if units else []
        return sentences


def sees_in_words(field: ReceptiveField | None, size: tuple[int, int]) -> str:
    """What a place of a layer's maps sees."""
    if field is None:
        return "the whole image"
    if field.height >= size[0] and field.width >= size[1]:
        return f"up to the whole image ({field.width} × {field.height} pixels)"
    if (field.height, field.width) == (1, 1):
        return "one pixel"
    return f"{field.width} × {field.height} pixels of the image"


# Most numbers a side that are written as text.
_WRITTEN: Final = 7


@dataclass(frozen=True)
class NumberPicture:
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
    values = {
        "part": lesson.term,
        "lesson": lesson,
        "sentence": SENTENCES[lesson.term],
        "image": png_address(pixels),
        "np": np,
        "number": figure,
        "numbers": picture_of,
        "pictured": functools.partial(picture_of, written=False),
        "compact": functools.partial(json.dumps, separators=(",", ":")),
    }
    return [section("lesson", title, "lesson.html", **values)]


def picture_of(
    title: str,
    values: NDArray[Any],
    among: NDArray[Any] | None = None,
    *,
    boxes: Sequence[tuple[tuple[int, int], tuple[int, int]]] = (),
    marked: Sequence[tuple[int, int]] = (),
    written: bool = True,
) -> NumberPicture:
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
        return NumberPicture(title, words, (tall, wide), address=address, boxes=framed)
    colours, digits = PALETTES[scale.colours], decimals(float(np.abs(values).max()))

    def cell(row: int, column: int) -> tuple[str, str, bool, bool]:
        text = f"{values[row, column]:.{digits}f}".replace("-", "−")
        colour = colours[places[row, column]]
        # Whether white stands out more from the colour than black does (WCAG 2.2, contrast).
        dark = float((colour / 255) ** 2.2 @ (0.2126, 0.7152, 0.0722)) < 0.179
        return text, f"#{colour.tobytes().hex()}", dark, (row, column) in marked

    rows = [[cell(row, column) for column in range(wide)] for row in range(tall)]
    return NumberPicture(title, words, (tall, wide), rows)
