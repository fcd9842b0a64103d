"""The network as one column of boxes, and the receptive fields of its layers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from opsin.core.arrays import Pixels
from opsin.core.format import short_count
from opsin.core.metadata import LayerOp
from opsin.onnx_files.operators import Family, traits_of
from opsin.report.figures.style import DPI, INK, MUTED, PALETTE, shorten, show_pixels

if TYPE_CHECKING:
    from opsin.inspection.summary import LayerRow

_COLOURS: Final[dict[Family, str]] = {
    "convolution": PALETTE[0], "dense": PALETTE[5], "norm": PALETTE[4], "pooling": PALETTE[1],
    "sum": PALETTE[3], "activation": PALETTE[2], "other": MUTED,
}  # fmt: skip
# Inches: a box, from one to the next, the lane for skip connections, and the bars on the right.
_WIDE, _TALL, _PITCH, _LANE, _BARS = 3.2, 0.23, 0.42, 0.7, 1.5
_EDGE: Final[dict[str, Any]] = {
    "arrowstyle": "-|>", "mutation_scale": 6, "linewidth": 1, "shrinkA": 0, "shrinkB": 0
}  # fmt: skip
_CURVE: Final = (Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4)


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


def draw_network(rows: Sequence[LayerRow]) -> Figure:
    """Draw the layers from the pixels down, each with bars of its parameters and its time."""
    width = _LANE + _WIDE + _BARS
    lines = textwrap.wrap(network_title(rows), int(10.5 * width))
    head = 0.7 + 0.17 * len(lines)
    height = head + len(rows) * _PITCH + 0.3
    # Matplotlib cannot write longer images as PNG.
    figure = Figure(figsize=(width, height), dpi=min(DPI, 60_000 / height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.axis("off")
    axes.text(0.08, 0.08, "\n".join(lines), fontsize=10.5, fontweight="bold", va="top")
    tops = {row.name: head + index * _PITCH for index, row in enumerate(rows)}
    shapes = {row.name: row.shape for row in rows}
    middle = _LANE + _WIDE / 2
    field, pixels = rows[0].receptive_field, "pixels"
    if field is not None and field.step == (1, 1):
        pixels += f" {'×'.join(map(str, (*image_size(rows), rows[0].shape[0])))}"
    axes.text(middle, head - 0.2, pixels, fontsize=7, ha="center", fontweight="bold")
    for index, row in enumerate(rows):
        top = tops[row.name]
        colour = _COLOURS[traits_of(LayerOp.of(row.kind)).family]
        axes.add_patch(
            FancyBboxPatch((_LANE, top), _WIDE, _TALL, facecolor=(colour, 0.2), linewidth=0.9,
                           boxstyle="round,pad=0,rounding_size=0.04", edgecolor=colour)
        )  # fmt: skip
        name = shorten(row.name, 30)
        at, kind = top + _TALL / 2, shorten(row.kind, 52 - len(name))
        axes.text(_LANE + 0.06, at, name, fontsize=7, fontweight="bold", va="center_baseline")
        axes.text(_LANE + _WIDE - 0.06, at, kind, fontsize=6.5, ha="right", va="center_baseline")
        above = rows[index - 1].name if index else "images"
        for parent in row.parents:
            if parent == above or not index:
                axes.annotate("", (middle, top), (middle, top - _PITCH + _TALL),
                              arrowprops=_EDGE | {"color": MUTED})  # fmt: skip
                continue
            start = tops.get(parent, head - _PITCH) + _TALL / 2
            bulge = max(0.02, _LANE - 0.12 * (at - start) / _PITCH - 0.2)
            curve = Path([(_LANE, start), (bulge, start), (bulge, at), (_LANE, at)], _CURVE)
            axes.add_patch(FancyArrowPatch(path=curve, color=PALETTE[3], **_EDGE))
        changed = row.shape not in [shapes[name] for name in row.parents if name in shapes]
        shape, weight, colour = ("×".join(map(str, row.shape)),
                                 *(("bold", INK) if changed else ("normal", MUTED)))  # fmt: skip
        axes.text(middle + 0.06, top + _TALL + 0.1, shape, fontsize=6, va="center",
                  fontweight=weight, color=colour)  # fmt: skip
    labels, end = f"{math.prod(rows[-1].shape):,} labels", head + len(rows) * _PITCH
    axes.text(middle, end + 0.02, labels, fontsize=7, ha="center", va="top", fontweight="bold")
    held = [(float(row.parameters), short_count(row.parameters)) for row in rows]
    time = [(row.share or 0.0, f"{row.share or 0.0:.0%}") for row in rows]
    _draw_bars(axes, "parameters", MUTED, held, head)
    _draw_bars(axes, "time", INK, time, head + 0.105)
    return figure


def _draw_bars(
    axes: Axes, title: str, colour: str, values: Sequence[tuple[float, str]], top: float
) -> None:
    """Draw a bar beside each box; that of the largest value fills the room."""
    most, left = max(value for value, _ in values) or 1.0, _LANE + _WIDE + 0.08
    axes.text(left, top - 0.18, title, fontsize=6, color=colour, va="center", fontweight="bold")
    for index, (value, words) in enumerate(values):
        at, length = top + index * _PITCH + 0.02, (_BARS - 0.5) * value / most
        if value:
            axes.add_patch(Rectangle((left, at), length, 0.08, facecolor=colour))
        if value >= 0.005:
            axes.text(left + length + 0.03, at + 0.045, words, fontsize=6, color=colour,
                      va="center_baseline")  # fmt: skip


# Images in a row and in all, the size of a card and of its image in inches, and the opacity of
# unseen pixels.
_ROW, _MOST = 6, 42
_CARD, _SIDE = (1.55, 1.95), 1.35
_LEFT: Final = 0.22


def image_size(rows: Sequence[LayerRow]) -> tuple[int, int]:
    """Height and width of the image by the first layer's output, or 0 and 0."""
    first = rows[0]
    if first.receptive_field is None or len(first.shape) != 3:
        return 0, 0
    down, across = first.receptive_field.step
    return first.shape[1] * down, first.shape[2] * across


@dataclass(frozen=True)
class _Seen:
    """The receptive field of the middle place of some layers: a box, and in words."""

    box: tuple[int, int, int, int]  # top, left, bottom, right
    words: str
    layers: list[str]


def _box(row: LayerRow, size: tuple[int, int]) -> tuple[int, int, int, int]:
    if row.receptive_field is None:
        return 0, 0, *size
    # A flattened layer's units see the same as the layer before.
    y, x = (side // 2 for side in row.shape[1:]) if len(row.shape) == 3 else (0, 0)
    return row.receptive_field.box(y, x, size)


def sees(row: LayerRow, size: tuple[int, int]) -> str:
    """The receptive field of the middle place of a layer, in words."""
    field = row.receptive_field
    if field is None or _box(row, size) == (0, 0, *size):
        return "whole image"
    return f"{field.height}×{field.width}"


def _seen(rows: Sequence[LayerRow], size: tuple[int, int]) -> list[_Seen]:
    """Receptive fields of layers, consecutive equal ones joined."""
    groups: list[_Seen] = []
    for row in rows:
        field, box, words = row.receptive_field, _box(row, size), sees(row, size)
        if field is not None and len(row.shape) != 3:
            continue  # it only lays in a row what the layer before sees
        if field is not None and words[0].isdigit():
            top, left, bottom, right = box
            whole = (bottom - top, right - left) == (field.height, field.width)
            words += " pixels" if whole else ", cut at the edge"
        if not groups or groups[-1].words != words:
            groups.append(_Seen(box, words, []))
        groups[-1].layers.append(row.name)
    return groups


def fields_title(rows: Sequence[LayerRow], size: tuple[int, int]) -> str:
    """Say from which layer on a unit sees the whole image."""
    by_name, last = {row.name: row for row in rows}, _seen(rows, size)[-1]
    if last.box != (0, 0, *size):
        return f"No unit sees more than {sees(by_name[last.layers[-1]], size)} pixels"
    first = by_name[last.layers[0]]
    if first is rows[-1]:
        return f"Only {first.name} sees the whole image"
    unit = "each unit" if first.receptive_field is None else "the unit in the middle"
    return f"From {first.name} on, {unit} sees the whole image"


def draw_receptive_fields(rows: Sequence[LayerRow], pixels: Pixels) -> Figure:
    """Draw the receptive field of the middle place of each layer's maps on an image."""
    size = (pixels.shape[0], pixels.shape[1])
    seen = _seen(rows, size)
    title = fields_title(rows, size)
    if len(seen) > _MOST:
        title += f" ({_MOST} of {len(seen)} sizes shown)"
        seen = [seen[round(index)] for index in np.linspace(0, len(seen) - 1, _MOST)]
    across = min(_ROW, max(3, len(seen)))
    width = across * _CARD[0] + 0.1
    lines = textwrap.wrap(title, int(10.5 * width))
    top = 0.25 + 0.17 * len(lines)
    height = top + math.ceil(len(seen) / across) * _CARD[1]
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.text(0.1, 0.08, "\n".join(lines), fontsize=10.5, fontweight="bold", va="top")
    for index, field in enumerate(seen):
        down, right = divmod(index, across)
        _draw_seen(axes, pixels, field, 0.1 + right * _CARD[0], top + down * _CARD[1])
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.axis("off")
    return figure


def _draw_seen(axes: Axes, pixels: Pixels, seen: _Seen, left: float, top: float) -> None:
    """Draw the image with the rest of it faded, and the layers below, from a corner in inches."""
    y, x, bottom, right = seen.box
    faded = pixels * _LEFT + 233 * (1 - _LEFT)
    faded[y:bottom, x:right] = pixels[y:bottom, x:right]
    scale = _SIDE / max(pixels.shape[:2])
    height, width = pixels.shape[0] * scale, pixels.shape[1] * scale
    show_pixels(axes, faded.astype(np.uint8), extent=(left, left + width, top + height, top))
    axes.add_patch(
        Rectangle((left + x * scale, top + y * scale), (right - x) * scale, (bottom - y) * scale,
                  fill=False, edgecolor=PALETTE[1], linewidth=1.6)
    )  # fmt: skip
    names = [shorten(seen.layers[0], 24)]
    if len(seen.layers) > 1:
        names.append(f"to {shorten(seen.layers[-1], 22)}")
    below = top + height + 0.05
    axes.text(left, below, seen.words, fontsize=7.5, fontweight="bold", va="top")
    axes.text(left, below + 0.15, "\n".join(names), fontsize=6.5, color=MUTED, va="top")
