"""The network as a graph."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from opsin.core.format import short_count
from opsin.core.metadata import LayerOp
from opsin.onnx_files.operators import Family, traits_of
from opsin.report.figures.receptive_fields import image_size
from opsin.report.figures.style import (
    DPI,
    INK,
    MUTED,
    PALETTE,
    shorten,
)

if TYPE_CHECKING:
    from opsin.inspection.summary import LayerRow

_COLOURS: Final[dict[Family, str]] = {
    "convolution": PALETTE[0], "dense": PALETTE[5], "norm": PALETTE[4], "pooling": PALETTE[1],
    "sum": PALETTE[3], "activation": PALETTE[2], "other": MUTED,
}  # fmt: skip
# Layers from which there is a further column, the most columns side by side, layers in them.
_MORE: Final = (14, 32, 60)
_BESIDE: Final = len(_MORE) + 1
_COLUMN: Final = 24
# Inches: a box and from one to the next, the lane left of it for skip connections,
# the way to the next column, and what is above and below a column.
_BOX, _PITCH, _LANE, _GUTTER = 0.23, 0.42, 0.3, 0.2
_HEAD, _FOOT = 0.4, 0.34


def shape_in_words(shape: Sequence[int]) -> str:
    """Return a shape as it is written everywhere.

    Example:
        >>> shape_in_words((64, 13, 13))
        '64×13×13'
    """
    return "×".join(f"{side:,}" for side in shape)


def network_title(rows: Sequence[LayerRow]) -> str:
    """Say where a network's parameters are and its time goes."""
    held = sum(row.parameters for row in rows)
    slow = max(rows, key=lambda row: row.share or 0)
    time = f"takes {slow.share:.0%} of the time" if slow.share else ""
    if not held:
        return f"{slow.name} {time}" if time else f"{len(rows)} layers without parameters"
    large = max(rows, key=lambda row: row.parameters)
    holds = f"{large.name} holds {large.parameters / held:.0%} of the parameters"
    if not time:
        return holds
    return f"{holds} and {time}" if slow is large else f"{holds}, {slow.name} {time}"


@dataclass(frozen=True)
class _Place:
    """Where a layer's box is, its left and top edge in inches, and in which column."""

    left: float
    top: float
    column: int


@dataclass(frozen=True)
class _Board:
    """What the parts of a graph are drawn on.

    Args:
        axes: In inches from the left upper corner.
        places: Where each layer's box is.
        box: Width of a box.
        bars: Width of the bars beside it.
    """

    axes: Axes
    places: dict[str, _Place]
    box: float
    bars: float

    def centre(self, name: str) -> float:
        """Return the middle of a box, from the left."""
        return self.places[name].left + self.box / 2


def draw_network(rows: Sequence[LayerRow]) -> Figure:
    """Draw the layers as boxes from the pixels to the labels, in columns to be read downwards.

    Shapes stand on the edges, bold where they change. Skip connections, as in residual
    blocks, are curves. Groups of layers have a frame. Beside each box are two bars: its share of
    the parameters and of the time, each as long as it is compared with the largest.

    Args:
        rows: The layers in the order of their work.
    """
    columns = _columns(rows)
    beside = min(len(columns), _BESIDE)
    box, bars = (2.0, 1.35) if beside == 1 else (1.55, 0.6)
    step = _LANE + box + 0.08 + bars + _GUTTER
    lines = textwrap.wrap(network_title(rows), int(10.5 * beside * step))
    height = 0.2 + 0.17 * len(lines)
    places: dict[str, _Place] = {}
    for start in range(0, len(columns), beside):
        band = columns[start : start + beside]
        for number, column in enumerate(band):
            for place, row in enumerate(column):
                top = height + _HEAD + place * _PITCH
                places[row.name] = _Place(_LANE + number * step, top, start + number)
        height += _HEAD + max(map(len, band)) * _PITCH + _FOOT
    figure = Figure(figsize=(beside * step, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, beside * step), ylim=(height, 0), aspect="auto")
    axes.axis("off")
    axes.text(0.08, 0.08, "\n".join(lines), fontsize=10.5, fontweight="bold", va="top")
    board = _Board(axes, places, box, bars)
    for column in columns:
        _draw_frames(board, column)
    _draw_boxes(board, rows)
    _draw_bars(board, rows)
    _draw_edges(board, rows)
    return figure


def _group(row: LayerRow) -> str:
    return row.name.rpartition(".")[0]


def _columns(rows: Sequence[LayerRow]) -> list[list[LayerRow]]:
    """Lay the layers in columns of about one length, parts that belong together undivided."""
    count = 1 + sum(len(rows) > more for more in _MORE)
    if count == _BESIDE:
        count *= math.ceil(len(rows) / (_BESIDE * _COLUMN))
    parts = _parts(rows)
    for length in range(math.ceil(len(rows) / count), len(rows) + 1):
        columns: list[list[LayerRow]] = [[]]
        for part in parts:
            if columns[-1] and len(columns[-1]) + len(part) > length:
                columns.append([])
            columns[-1] += part
        if len(columns) <= count:
            break
    return columns


def _parts(rows: Sequence[LayerRow]) -> list[list[LayerRow]]:
    """Divide the layers where a group ends and no way leads past, and at the latest at a column."""
    number = {row.name: place for place, row in enumerate(rows)}
    passed = [0] * (len(rows) + 1)
    for place, row in enumerate(rows):
        for parent in row.parents:
            if number.get(parent, place) < place - 1:
                passed[number[parent] + 1] += 1
                passed[place + 1] -= 1
    parts: list[list[LayerRow]] = []
    over = 0
    for place, row in enumerate(rows):
        over += passed[place]
        inside = place and _group(row) and _group(row) == _group(rows[place - 1])
        if not parts or not (over or inside) or len(parts[-1]) == _COLUMN:
            parts.append([])
        parts[-1].append(row)
    return parts


def _draw_frames(board: _Board, column: Sequence[LayerRow]) -> None:
    """Draw a soft frame around each group of a column, its name above."""
    for name in dict.fromkeys(_group(row) for row in column if _group(row)):
        members = [board.places[row.name] for row in column if _group(row) == name]
        left, top = members[0].left, members[0].top
        height = members[-1].top - top + _BOX
        board.axes.add_patch(
            FancyBboxPatch((left - 0.03, top - 0.12), board.box + 0.06, height + 0.13,
                           boxstyle="round,pad=0.03,rounding_size=0.06", facecolor=(MUTED, 0.14),
                           edgecolor="none", zorder=0)
        )  # fmt: skip
        board.axes.text(left, top - 0.03, shorten(name, 14), fontsize=6.5, color=MUTED,
                        fontweight="bold", va="bottom")  # fmt: skip


def _draw_boxes(board: _Board, rows: Sequence[LayerRow]) -> None:
    """Draw a box for each layer: its name and what it is, in the colour of its family."""
    letters = int(16 * board.box)
    for row in rows:
        place, name = board.places[row.name], shorten(row.name.rpartition(".")[2], 14)
        colour = _COLOURS[traits_of(LayerOp.of(row.kind)).family]
        board.axes.add_patch(
            FancyBboxPatch((place.left, place.top), board.box, _BOX, facecolor=(colour, 0.2),
                           boxstyle="round,pad=0,rounding_size=0.04", edgecolor=colour,
                           linewidth=0.9)
        )  # fmt: skip
        middle = place.top + _BOX / 2
        board.axes.text(place.left + 0.06, middle, name, fontsize=7, fontweight="bold",
                        va="center_baseline")  # fmt: skip
        kind = shorten(row.kind, letters - len(name))
        board.axes.text(place.left + board.box - 0.06, middle, kind, fontsize=6.5, ha="right",
                        va="center_baseline")  # fmt: skip


def _draw_bars(board: _Board, rows: Sequence[LayerRow]) -> None:
    """Draw how many parameters each layer has and how long it takes, beside its box."""
    held = {row.name: (float(row.parameters), short_count(row.parameters)) for row in rows}
    time = {row.name: (row.share or 0.0, f"{row.share or 0.0:.0%}") for row in rows}
    first = board.places[rows[0].name]
    kinds = (("parameters", MUTED, held), ("time", INK, time))
    for line, (title, colour, values) in enumerate(kinds):
        most = max(value for value, _ in values.values())
        if not most:
            continue
        down = 0.02 + line * 0.105
        board.axes.text(first.left + board.box + 0.08, first.top - 0.2 + down, title, fontsize=6,
                        color=colour, va="center", fontweight="bold")  # fmt: skip
        for name, (value, words) in values.items():
            place = board.places[name]
            left, length = place.left + board.box + 0.08, (board.bars - 0.32) * value / most
            if value:
                board.axes.add_patch(Rectangle((left, place.top + down), length, 0.08,
                                               facecolor=colour, edgecolor="none"))  # fmt: skip
            if value >= 0.005:
                board.axes.text(left + length + 0.03, place.top + down + 0.045, words, fontsize=6,
                                color=colour, va="center_baseline")  # fmt: skip


def _draw_edges(board: _Board, rows: Sequence[LayerRow]) -> None:
    """Draw what flows from layer to layer, the shape beside it."""
    known = {row.name: row for row in rows}
    straight: list[list[tuple[float, float]]] = []
    for row in rows:
        to, x = board.places[row.name], board.centre(row.name)
        for parent in row.parents:
            if parent not in known:
                if row is rows[0]:
                    straight.append([(x, to.top - 0.17), (x, to.top)])
                    board.axes.text(x, to.top - 0.2, _pixels(rows), fontsize=7, ha="center",
                                    fontweight="bold")  # fmt: skip
                else:
                    _draw_from_afar(board, row.name, "pixels")
                continue
            start, bottom = board.places[parent], board.places[parent].top + _BOX
            if start.column == to.column and to.top - start.top > 1.5 * _PITCH:
                _draw_past(board, parent, row.name)
                continue
            if start.column == to.column:
                straight.append([(x, bottom), (x, to.top)])
            elif parent == rows[list(known).index(row.name) - 1].name:
                straight.append(_to_next_column(board, parent, row.name))
            else:
                _draw_from_afar(board, row.name, parent)
                continue
            shape = known[parent].shape
            before = [known[each].shape for each in known[parent].parents if each in known]
            changed = shape not in before
            board.axes.text(x + 0.06, to.top - 0.095, shape_in_words(shape), fontsize=6,
                            va="center", fontweight="bold" if changed else "normal",
                            color=INK if changed else MUTED)  # fmt: skip
    end, x = board.places[rows[-1].name].top + _BOX, board.centre(rows[-1].name)
    straight.append([(x, end), (x, end + 0.15)])
    labels = f"{math.prod(rows[-1].shape):,} labels"
    board.axes.text(x, end + 0.18, labels, fontsize=7, ha="center", va="top", fontweight="bold")
    board.axes.add_collection(LineCollection(straight, colors=MUTED, linewidths=0.9, zorder=1))
    tips = [line[-1] for line in straight]
    board.axes.plot([tip[0] for tip in tips], [tip[1] - 0.025 for tip in tips], linestyle="none",
                    marker="v", markersize=3, color=MUTED, zorder=1)  # fmt: skip


def _pixels(rows: Sequence[LayerRow]) -> str:
    size, field = image_size(rows), rows[0].receptive_field
    if field is None or field.step != (1, 1):
        return "pixels"
    return f"pixels {shape_in_words((*size, rows[0].shape[0]))}"


def _draw_past(board: _Board, parent: str, child: str) -> None:
    """Draw a way that leads past the layers between, as a curve on their left."""
    left = board.places[parent].left
    start, end = (board.places[name].top + _BOX / 2 for name in (parent, child))
    bulge = left - 1.2 * _LANE
    curve = Path(
        [(left, start), (bulge, start), (bulge, end), (left, end)],
        [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
    )
    board.axes.add_patch(
        FancyArrowPatch(path=curve, arrowstyle="-|>", mutation_scale=6, color=PALETTE[3],
                        linewidth=1.1, shrinkA=0, shrinkB=0)
    )  # fmt: skip


def _draw_from_afar(board: _Board, child: str, source: str) -> None:
    """Draw the end of a way from another column, and write where it comes from."""
    place = board.places[child]
    middle = place.top + _BOX / 2
    board.axes.add_patch(
        FancyArrowPatch((place.left - 0.2, middle), (place.left, middle), arrowstyle="-|>",
                        mutation_scale=6, color=PALETTE[3], linewidth=1.1, shrinkA=0, shrinkB=0)
    )  # fmt: skip
    board.axes.text(place.left, place.top - 0.03, f"from {shorten(source, 20)}", fontsize=5.5,
                    color=PALETTE[3], va="bottom")  # fmt: skip


def _to_next_column(board: _Board, parent: str, child: str) -> list[tuple[float, float]]:
    """Return the corners of the way from a column's end to the beginning of the next."""
    start, to = board.places[parent], board.places[child]
    across = start.left + board.box + 0.08 + board.bars + _GUTTER / 2
    below = start.top + _BOX + 0.12
    # A way to the left, under a band of columns, passes above those within the next band.
    above = to.top - (0.26 if to.left > start.left else 0.33)
    x, end = board.centre(parent), board.centre(child)
    return [(x, start.top + _BOX), (x, below), (across, below), (across, above), (end, above),
            (end, to.top)]  # fmt: skip
