"""Sections on what layers make of an image."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.format import counted
from opsin.data.image_encoding import png_address
from opsin.onnx_files.operators import traits_of
from opsin.report.inside.inspection_page import Section, section
from opsin.report.maps import (
    PALETTES,
    STOPS,
    Scale,
    gradient,
    indexed_address,
    scale_of,
    sprite,
)

if TYPE_CHECKING:
    from opsin.inspection.activity import Activity, UnitActivity
    from opsin.inspection.layers import LayerView
    from opsin.onnx_files.receptive_field import ReceptiveField

#: Maps or bars on a page of a layer; further pages are folded.
PAGE: Final = 64
# Maps in a row of the image that holds a page of maps; layers.css counts with it.
_COLUMNS: Final = 8
# About how many pixels of the screen a map's longer side takes up in the grid, and at most.
_SIDE: Final = 56
_WIDEST: Final = 96
# Share of a layer's values, zeros left out, that lie within its scale; with fewer, all do.
_WITHIN: Final = 0.995
_FEW: Final = 200
# Numbers of dead units that a sentence lists.
_LISTED: Final = 24


@dataclass(frozen=True)
class _Unit:
    """A map or a bar: what is said beside it."""

    number: int
    said: str
    mark: str
    width: float = 0.0
    below: bool = False


@dataclass(frozen=True)
class _Page:
    """Up to 64 units, the strongest first; maps are laid together in one image."""

    anchor: str
    first: int
    units: list[_Unit]
    image: str = ""
    places: str = ""
    columns: int = 0

    @property
    def rows(self) -> int:
        return -(-len(self.units) // self.columns)


@dataclass(frozen=True)
class _LayerCard:
    """A layer as the page shows it.

    Args:
        anchor: Where the page has it.
        view: What it makes of the image.
        scale: The colours of its values.
        marked: Which units are dead or saturated, in words.
        field: Of maps, what a place of them sees; ``None`` is the whole image.
        sees: The same in words.
        pages: Its units.
    """

    anchor: str
    view: LayerView
    scale: Scale
    marked: Sequence[str]
    field: ReceptiveField | None
    sees: str
    pages: Sequence[_Page]

    @property
    def shape(self) -> str:
        shape = self.view.values.shape
        if self.is_map:
            return f"{counted(shape[0], 'map')} of {shape[2]} × {shape[1]}"
        return counted(shape[0], "unit")

    @property
    def is_map(self) -> bool:
        return self.view.values.ndim == 3

    @property
    def passing(self) -> bool:
        return traits_of(self.view.layer.op).passes_on

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a map on the screen, in pixels."""
        tall, wide = self.view.values.shape[1:]
        zoom = _zoom(max(tall, wide))
        return wide * zoom, tall * zoom

    @property
    def low_end(self) -> str:
        return ("≤ " if self.view.minimum < self.scale.low else "") + figure(self.scale.low)

    @property
    def high_end(self) -> str:
        return ("≥ " if self.view.maximum > self.scale.high else "") + figure(self.scale.high)

    @property
    def histogram(self) -> str:
        return _histogram(self.view.counts)

    @property
    def places(self) -> str:
        """What a place sees, as the page's script reads it."""
        field = self.field
        numbers = () if field is None else (field.height, field.width, *field.step, *field.start)
        return " ".join(map(str, numbers))


def layer_sections(
    views: Sequence[LayerView],
    activity: Activity | None,
    pixels: NDArray[np.uint8],
    answer_bars: Sequence[tuple[str, float]],
    fields: Mapping[str, ReceptiveField | None],
) -> list[Section]:
    """Return the sections about an image: how it goes in, layer by layer, and the answer.

    Args:
        views: What the layers make of it, in the order of their work.
        activity: Which units are dead or saturated; ``None`` where it is unknown.
        pixels: The prepared image, ``uint8[H, W, C]``.
        answer_bars: Each class with its probability, the best first.
        fields: By the layer's name, what a place of its maps sees; ``None``, or no entry, is the
            whole image.
    """
    height, width, channels = pixels.shape
    colours = {1: "grey", 3: "colour"}[channels]
    size = f"{width} × {height} pixels, {colours}"
    image = png_address(pixels)
    sections = [
        section("image", "The image as the network sees it", "layers.html", part="image",
                address=image, size=size, width=width, height=height)
    ]  # fmt: skip
    if views:
        layers = [
            _layer(number, view, activity, fields.get(view.layer.name), (height, width))
            for number, view in enumerate(views)
        ]
        gradients = {name: gradient(name) for name in STOPS}
        palettes = json.dumps(
            {name: colours.ravel().tolist() for name, colours in PALETTES.items()}
        )
        sections.append(
            section("layers", "What each layer makes of it", "layers.html", part="layers",
                    layers=layers, figure=figure, gradients=gradients, palettes=palettes,
                    width=width, height=height, looked_at=activity.images if activity else 0)
        )  # fmt: skip
    if answer_bars:
        best, share = max(answer_bars, key=lambda bar: bar[1])
        tables = [answer_bars[start : start + PAGE] for start in range(0, len(answer_bars), PAGE)]
        sections.append(
            section("softmax", f"The softmax: {best}, {100 * share:.1f}%", "layers.html",
                    part="softmax", tables=tables, size=PAGE)
        )  # fmt: skip
    return sections


def _layer(
    number: int,
    view: LayerView,
    activity: Activity | None,
    field: ReceptiveField | None,
    size: tuple[int, int],
) -> _LayerCard:
    values = view.values
    scale = _scale(view)
    units = None if activity is None else activity.layers.get(view.layer.name)
    marks = _marks(units, len(values))
    anchor = f"layer{number}"
    if values.ndim == 3:
        pages, sees = _map_pages(anchor, view, scale, marks), _sees(field, size)
    else:
        pages, sees = _paged(anchor, _bars(view, scale, marks)), ""
    marked = [said for mark in ("dead", "saturated") if (said := _listed(marks, mark))]
    return _LayerCard(anchor, view, scale, marked, field, sees, pages)


def _scale(view: LayerView) -> Scale:
    """Return the layer's scale; a few far values share the ends' colours, so that others show."""
    if view.values.ndim < 3:
        return scale_of(view.minimum, view.maximum)
    sizes = np.abs(np.nan_to_num(view.values))
    sizes = sizes[sizes > 0]
    reach = float(np.quantile(sizes, _WITHIN)) if sizes.size > _FEW else np.inf
    return scale_of(max(view.minimum, -reach), min(view.maximum, reach))


def _marks(units: UnitActivity | None, count: int) -> list[str]:
    """Return for each unit ``dead``, ``saturated`` or nothing."""
    marks = [""] * count
    if units is not None and len(units.dead) == count:
        for unit in np.flatnonzero(units.saturated):
            marks[unit] = "saturated"
        for unit in np.flatnonzero(units.dead):
            marks[unit] = "dead"
    return marks


def _map_pages(anchor: str, view: LayerView, scale: Scale, marks: Sequence[str]) -> list[_Page]:
    """Lay the maps out, the strongest first, 64 a page; nothing is left out."""
    pages = []
    for start in range(0, len(view.order), PAGE):
        chosen = view.order[start : start + PAGE]
        maps = view.values[chosen]
        columns = min(_COLUMNS, len(chosen))
        address = indexed_address(sprite(scale.places(maps), columns), scale.colours)
        flat = np.nan_to_num(maps).reshape(len(chosen), -1)
        strongest = np.abs(flat).argmax(axis=1)
        # The script's: unit, smallest and largest value, and the strongest place.
        places = [
            [int(unit), _short(row.min()), _short(row.max()), int(place)]
            for unit, row, place in zip(chosen, flat, strongest, strict=True)
        ]
        units = [_Unit(int(u), figure(view.strengths[u]), marks[u]) for u in chosen]
        pages.append(
            _Page(f"{anchor}-{start // PAGE}", start + 1, units, address,
                  json.dumps(places, separators=(",", ":")), columns)
        )  # fmt: skip
    return pages


def _bars(view: LayerView, scale: Scale, marks: Sequence[str]) -> list[_Unit]:
    """Return a dense layer's units as bars, the largest |value| first."""
    reach = max(abs(scale.low), abs(scale.high)) or 1.0
    values = np.nan_to_num(view.values)
    return [
        _Unit(int(unit), figure(values[unit]), marks[unit],
              min(100.0, 100 * abs(float(values[unit])) / reach), bool(values[unit] < 0))
        for unit in view.order
    ]  # fmt: skip


def _paged(anchor: str, units: Sequence[_Unit]) -> list[_Page]:
    return [
        _Page(f"{anchor}-{start // PAGE}", start + 1, list(units[start : start + PAGE]))
        for start in range(0, len(units), PAGE)
    ]


def _zoom(side: int) -> float:
    """Return pixels of the screen a place of a map, whole ones unless the map is large."""
    return max(1, round(_SIDE / side)) if side <= _WIDEST else 1 / math.ceil(side / _WIDEST)


def _histogram(counts: NDArray[np.int64]) -> str:
    """Return the bars as one path in a box of 32×24; heights go with the root of the counts."""
    heights = 24 * np.sqrt(counts / max(1, counts.max(initial=1)))
    steps = [
        f"M{place} 24v{-height:.3g}h1v{height:.3g}z"
        for place, height in enumerate(heights)
        if height
    ]
    return "".join(steps)


def _listed(marks: Sequence[str], mark: str) -> str:
    """Return which units are so marked, in words, ``5, 17 and 33``; all are marked in the grid."""
    found = [str(unit) for unit, own in enumerate(marks) if own == mark]
    if len(found) > _LISTED:
        found = [*found[:_LISTED], f"{len(found) - _LISTED:,} more"]
    if not found:
        return ""
    count = sum(own == mark for own in marks)
    said = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
    return f"{count:,} of {len(marks):,} units {'is' if count == 1 else 'are'} {mark}: {said}."


def _sees(field: ReceptiveField | None, size: tuple[int, int]) -> str:
    if field is None:
        return "the whole image"
    if field.height >= size[0] and field.width >= size[1]:
        return f"up to the whole image ({field.width} × {field.height} pixels)"
    if (field.height, field.width) == (1, 1):
        return "one pixel"
    return f"{field.width} × {field.height} pixels of the image"


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def figure(value: float) -> str:
    """Return a number with three digits that count, for small and large ones alike.

    Example:
        >>> figure(0.12345), figure(-12.345), figure(0.0), figure(4e-7), figure(123456.0)
        ('0.123', '−12.3', '0', '4e−7', '123,456')
    """
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
