"""The figure of a network: one column of boxes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from opsin.core.format import short_count
from opsin.core.metadata import LayerOp
from opsin.onnx_files.operators import Family, traits_of
from opsin.report.figures.style import DPI, INK, MUTED, PALETTE, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """Say where a network's parameters are."""
    held = sum(row.parameters for row in rows)
    if not held:
        return f"{len(rows)} layers without parameters"
    large = max(rows, key=lambda row: row.parameters)
    return f"{large.name} holds {large.parameters / held:.0%} of the parameters"


def draw_network(rows: Sequence[LayerRow]) -> Figure:
    """Draw the layers from the pixels down, each with a bar of its parameters."""
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
        _draw_box(axes, row, tops[row.name])
        _draw_edges(axes, row, rows[index - 1].name if index else "images", tops, head)
        changed = row.shape not in [shapes[name] for name in row.parents if name in shapes]
        axes.text(
            middle + 0.06,
            tops[row.name] + _TALL + 0.1,
            "×".join(map(str, row.shape)),
            fontsize=6,
            va="center",
            fontweight="bold" if changed else "normal",
            color=INK if changed else MUTED,
        )
    labels, end = f"{math.prod(rows[-1].shape):,} labels", head + len(rows) * _PITCH
    axes.text(middle, end + 0.02, labels, fontsize=7, ha="center", va="top", fontweight="bold")
    _draw_parameters(axes, rows, tops, head)
    return figure


def _draw_box(axes: Axes, row: LayerRow, top: float) -> None:
    colour, middle = _COLOURS[traits_of(LayerOp.of(row.kind)).family], top + _TALL / 2
    style = "round,pad=0,rounding_size=0.04"
    box = FancyBboxPatch((_LANE, top), _WIDE, _TALL, boxstyle=style, linewidth=0.9)
    box.set(facecolor=(colour, 0.2), edgecolor=colour)
    axes.add_patch(box)
    name = shorten(row.name, 30)
    kind = shorten(row.kind, 52 - len(name))
    axes.text(_LANE + 0.06, middle, name, fontsize=7, fontweight="bold", va="center_baseline")
    axes.text(_LANE + _WIDE - 0.06, middle, kind, fontsize=6.5, ha="right", va="center_baseline")


def _draw_edges(axes: Axes, row: LayerRow, above: str, tops: dict[str, float], head: float) -> None:
    """Draw an arrow from the box above, and arcs on the left from boxes further up."""
    top, centre = tops[row.name], _LANE + _WIDE / 2
    for parent in row.parents:
        if above in (parent, "images"):
            tail = (centre, top - _PITCH + _TALL)
            axes.annotate("", (centre, top), tail, arrowprops=_EDGE | {"color": MUTED})
            continue
        start, end = tops.get(parent, head - _PITCH) + _TALL / 2, top + _TALL / 2
        bulge = max(0.02, _LANE - 0.12 * (end - start) / _PITCH - 0.2)
        curve = Path([(_LANE, start), (bulge, start), (bulge, end), (_LANE, end)], _CURVE)
        axes.add_patch(FancyArrowPatch(path=curve, color=PALETTE[3], **_EDGE))


def _draw_parameters(
    axes: Axes, rows: Sequence[LayerRow], tops: dict[str, float], head: float
) -> None:
    most, left = max(row.parameters for row in rows) or 1, _LANE + _WIDE + 0.08
    draw = partial(axes.text, fontsize=6, color=MUTED)
    draw(left, head - 0.18, "parameters", va="center", fontweight="bold")
    for row in rows:
        if row.parameters:
            top, length = tops[row.name] + 0.07, (_BARS - 0.5) * row.parameters / most
            axes.add_patch(Rectangle((left, top), length, 0.08, facecolor=MUTED))
            count, end = short_count(row.parameters), left + length + 0.03
            draw(end, top + 0.045, count, va="center_baseline")


def image_size(rows: Sequence[LayerRow]) -> tuple[int, int]:
    """Height and width of the image by the first layer's output, or 0 and 0."""
    first = rows[0]
    if first.receptive_field is None or len(first.shape) != 3:
        return 0, 0
    down, across = first.receptive_field.step
    return first.shape[1] * down, first.shape[2] * across


def sees(row: LayerRow, size: tuple[int, int]) -> str:
    """The receptive field of the middle place of a layer, in words."""
    field = row.receptive_field
    # A flattened layer's units see the same as the layer before.
    y, x = (side // 2 for side in row.shape[1:]) if len(row.shape) == 3 else (0, 0)
    if field is None or field.box(y, x, size) == (0, 0, *size):
        return "whole image"
    return f"{field.height}×{field.width}"
