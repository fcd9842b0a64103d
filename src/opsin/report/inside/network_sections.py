"""Sections on a network as a whole: its layers and its weights."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.core.arrays import Bools, Floats
from opsin.core.format import counted
from opsin.report.figures.network_figures import image_size, network_title, sees
from opsin.report.figures.style import shorten
from opsin.report.maps import PALETTES, embedded, gradient
from opsin.report.run_page import themed
from opsin.report.templates import Section, section

if TYPE_CHECKING:
    from opsin.inspection.summary import LayerRow
    from opsin.inspection.weights import TensorSummary, WeightImages, WeightView

# Most layers without a scrolling table.
_LONG: Final = 40
# A point, matplotlib's unit, in a page's rem of 16 pixels; the page's width; the enlargement of a
# figure if there is room.
_REM: Final = 96 / 72 / 16
_PAGE, _ENLARGED = 65.5, 1.3


def network_section(rows: Sequence[LayerRow], svg: str) -> Section:
    """The section about the layers, with the figure ``network`` as SVG."""
    size = image_size(rows)
    held, trainable = (sum(row.parameters for row in rows), sum(row.trainable for row in rows))
    return section(
        "network",
        f"{counted(len(rows), 'layer holds', 'layers hold')} {held:,} parameters",
        "network.html",
        finding=network_title(rows),
        rows=rows,
        sees=[sees(row, size) for row in rows],
        # Bars are compared with the longest.
        largest=max(row.parameters for row in rows) or 1,
        trainable=f"{trainable:,} trainable, {held - trainable:,} not",
        svg=themed(svg),
        width=_width(svg),
        long=len(rows) > _LONG,
    )


def _width(svg: str) -> float:
    """The width of a figure in rem: large enough to read, on phones beyond the edge."""
    match = re.search(r'<svg[^>]*? width="([0-9.]+)pt"', svg)
    width = float(match[1]) * _REM if match else _PAGE
    return round(max(width, min(_ENLARGED * width, _PAGE)), 2)


# Images, and units of a map of kernels, in a fold of the page.
_TILES, _UNITS = 128, 64
# Most weights of one layer, and of all, for kernels drawn weight by weight.
_POINTS, _ALL_POINTS = 1_000_000, 4_000_000
# Most numbers of all tiles of one layer: larger ones are shrunk.
_TILE_NUMBERS: Final = 4_000_000


# Approximate width of a map in pixels of the page; pixels between the numbers along its sides.
_WIDE, _ACROSS, _DOWN = 960, 56, 14
# Rows and columns of a map of a matrix; of more, each point stands for a block.
_SIDE: Final = 1024
# Steps of colour on both sides of 0 together, of a tile and of a map, which is many times larger.
_FINE, _COARSE = 63, 15


@dataclass(frozen=True)
class Sheet:
    """A map of the weights of many units with numbers along its sides; sizes in pixels."""

    first: int
    last: int
    address: str
    width: int
    height: int
    rows: list[tuple[float, str]]  # where each label on the left stands, and what it says
    columns: list[tuple[float, str]]

    @property
    def left(self) -> int:
        """Pixels that the longest label on the left takes."""
        return 8 + 7 * max((len(text) for _, text in self.rows), default=0)


@dataclass(frozen=True)
class _Drawn:
    """A layer's weights as images: one a unit, or maps of many units."""

    view: WeightView
    note: str = ""
    limit: float | None = None  # end of the colour scale; None: each image has its own
    tiles: Sequence[tuple[str, str, float]] = ()  # unit or class, address, strongest weight
    sheets: Sequence[Sheet] = ()

    @property
    def folds(self) -> list[Sequence[tuple[str, str, float]]]:
        starts = range(0, len(self.tiles), _TILES)
        return [self.tiles[start : start + _TILES] for start in starts]

    @property
    def rgb(self) -> bool:
        images = self.view.images
        return bool(self.tiles and images and images.weights.shape[3] == 3)


def weight_sections(views: Sequence[WeightView], classes: Sequence[str] = ()) -> list[Section]:
    """The sections on weights: the first layer, and all layers."""
    part = functools.partial(section, template="weights.html", gradient=gradient("PuOr"))
    if not views:
        return [part("weights", "No weights to show", part="none")]
    room, layers = _ALL_POINTS, []
    for view in views:
        size = view.images.weights.size if view.images and view.images.kind == "kernels" else 0
        fits = size <= min(_POINTS, room)
        room -= size if fits else 0
        layers.append(_drawn(view, classes if view is views[-1] else (), whole=fits))
    first, sections = next((layer for layer in layers if layer.tiles), None), []
    if first is not None and first.view.images is not None:
        count, height, width, _ = first.view.images.weights.shape
        what = f"{count:,} {first.view.images.kind} of {height}×{width} pixels"
        title = f"What the first layer looks for: {what}"
        sections.append(part("first-layer", title, part="first", layer=first))
    total = sum(view.parameters for view in views)
    title = f"{total:,} parameters in {counted(len(views), 'layer')} with weights"
    sections.append(part("weights", title, part="all", layers=layers, bars=_bars, first=first))
    return sections


def _drawn(view: WeightView, classes: Sequence[str], *, whole: bool) -> _Drawn:
    images = view.images
    if images is None:
        return _Drawn(view)
    if images.kind in ("filters", "units"):
        return _as_tiles(view, images, classes)
    source, weights, limit = " and ".join(images.sources), images.weights, images.limit
    note = f"A row for each of the {len(weights):,} units, in it "
    if images.kind == "kernels" and whole:
        maps, height, width = weights.shape[1:]
        note += f"a kernel of {height}×{width} for each of the {maps:,} maps of {source}."
        starts = range(0, len(weights), _UNITS)
        sheets = [kernel_sheet(weights[start : start + _UNITS], start, limit) for start in starts]
        return _Drawn(view, note, limit, sheets=sheets)
    if images.kind == "kernels":
        note = (
            f"Too many kernels to draw them weight by weight. {note}the norms of its kernels, one "
            f"for each of the {weights.shape[1]:,} maps of {source}."
        )
        weights = np.sqrt((weights.astype(np.float64) ** 2).sum(axis=(2, 3)))
        limit, classes = float(np.quantile(weights, 0.995)) or 1.0, ()
    else:
        note += f"its weights of the {weights.shape[1]:,} numbers of {source}."
    sheet, (down, across) = matrix_sheet(weights, limit, classes)
    if down > 1 or across > 1:
        note += f" Each point is the strongest of {down}×{across} numbers."
    return _Drawn(view, note, limit, sheets=[sheet])


def _as_tiles(view: WeightView, images: WeightImages, classes: Sequence[str]) -> _Drawn:
    weights, count = images.weights, len(images.weights)
    factor = math.ceil(math.sqrt(weights.size / _TILE_NUMBERS))
    own_scale = images.kind == "filters"
    names = list(classes) if len(classes) == count else [str(unit) for unit in range(count)]
    tiles = []
    for name, unit in zip(names, weights, strict=True):
        strongest = float(np.abs(unit).max())
        limit = (strongest or 1.0) if own_scale else images.limit
        tiles.append((name, tile_address(unit, limit, factor), strongest))
    notes = ["Each has a colour scale of its own, whose ends stand under it."] if own_scale else []
    if factor > 1:
        notes.append(f"Each point is the mean of {factor}×{factor} pixels.")
    return _Drawn(view, " ".join(notes), None if own_scale else images.limit, tiles=tiles)


def _bars(values: TensorSummary) -> str:
    """A histogram's outline for an SVG path, 160 wide and 40 high."""
    top = max(int(values.counts.max()), 1)
    wide = 160 / len(values.counts)
    return "".join(
        f"M{index * wide:.4g} 40v{-40 * count / top:.3g}h{wide - 0.6:.4g}V40z"
        for index, count in enumerate(values.counts.tolist())
        if count
    )


def tile_address(weights: Floats, limit: float, factor: int = 1) -> str:
    """A unit's weights ``float32[H, W, C]`` as an embedded image, averaged over blocks if large."""
    if factor > 1:
        for axis, side in enumerate(weights.shape[:2]):
            starts = np.arange(0, side, factor)
            sizes = np.diff([*starts, side]).reshape(-1, *(1,) * (2 - axis))
            weights = np.asarray(np.add.reduceat(weights, starts, axis) / sizes, np.float32)
    if weights.shape[2] == 3:
        colours = 127.5 + 127.5 * np.clip(weights / limit, -1, 1)
        return embedded(Image.fromarray(colours.round().astype(np.uint8)))
    return _map_address(weights.mean(axis=2), limit, _FINE)


def kernel_sheet(weights: Floats, start: int, limit: float) -> Sheet:
    """Draw kernels ``float32[N, M, H, W]`` of units from ``start`` on, a gap between each two."""
    units, maps, height, width = weights.shape
    cells = np.zeros((units, height + 1, maps, width + 1), np.float32)
    gaps = np.ones(cells.shape, np.bool_)
    cells[:, :height, :, :width] = weights.transpose(0, 2, 1, 3)
    gaps[:, :height, :, :width] = False
    flat = (units * (height + 1), maps * (width + 1))
    scale = int(np.clip(_WIDE // flat[1], 2, 5))
    return Sheet(
        first=start,
        last=start + units - 1,
        address=_map_address(cells.reshape(flat), limit, _COARSE, gaps.reshape(flat)),
        width=scale * flat[1],
        height=scale * flat[0],
        rows=list(_numbers(start, units, 1, scale * (height + 1), _DOWN)),
        columns=list(_numbers(0, maps, 1, scale * (width + 1), _ACROSS)),
    )


def matrix_sheet(
    matrix: NDArray[Any], limit: float, names: Sequence[str] = ()
) -> tuple[Sheet, tuple[int, int]]:
    """Draw a matrix ``float[N, M]`` as one map, with names or numbers beside its rows."""
    units = len(matrix)
    down, across = (math.ceil(side / _SIDE) for side in matrix.shape)
    matrix = _strongest(matrix, down, across)
    rows, columns = matrix.shape
    wide, high = int(np.clip(_WIDE // columns, 1, 16)), int(np.clip(320 // rows, 1, 16))
    labels = list(_numbers(0, rows, down, high, _DOWN))
    if len(names) == rows == units:
        labels = [(high * (row + 0.5), shorten(name, 22)) for row, name in enumerate(names)]
        labels = labels[:: math.ceil(_DOWN / high)]
    sheet = Sheet(
        first=0,
        last=units - 1,
        address=_map_address(matrix, limit, _COARSE),
        width=wide * columns,
        height=high * rows,
        rows=labels,
        columns=list(_numbers(0, columns, across, wide, _ACROSS)),
    )
    return sheet, (down, across)


def _strongest(matrix: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    """The number farthest from 0 of each block of a matrix."""
    for axis, block in ((0, down), (1, across)):
        starts = np.arange(0, matrix.shape[axis], block)
        most = np.maximum.reduceat(matrix, starts, axis=axis)
        least = np.minimum.reduceat(matrix, starts, axis=axis)
        matrix = np.where(most >= -least, most, least)
    return matrix


def _numbers(
    start: int, count: int, block: int, pixels: int, apart: int
) -> Iterator[tuple[float, str]]:
    """Yield round numbers along a side and their positions, as close as is readable."""
    step = next(
        size * 10**power
        for power in range(9)
        for size in (1, 2, 5)
        if size * 10**power * pixels >= apart * block
    )
    for number in range(start, start + count * block):
        position = (number - start) / block + 0.5
        # The last block may be smaller than the others, and end before the number.
        if number % step == 0 and position < count:
            yield pixels * position, str(number)


def _map_address(weights: NDArray[Any], limit: float, steps: int, gaps: Bools | None = None) -> str:
    """A map as an embedded PNG, with transparent gaps."""
    middle = (steps - 1) / 2
    level = (middle + middle * np.clip(weights / limit, -1, 1)).round().astype(np.uint8)
    if gaps is not None:
        level[gaps] = steps
    image = Image.fromarray(level)
    colours = PALETTES["PuOr"][np.linspace(0, 255, steps).round().astype(int)]
    image.putpalette(colours.tobytes() + bytes(3))
    return embedded(image, bits=4 if steps < 16 else 8, transparency=steps)
