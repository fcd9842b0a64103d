"""What the layers of a network see of an image."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from opsin.report.figures.style import DPI, MUTED, PALETTE, shorten, show_pixels

if TYPE_CHECKING:
    from opsin.inspection.summary import LayerRow

# Images in a row and in all, what each takes and its own side in inches, and how much is left
# of the pixels that are not seen.
_ROW, _MOST = 6, 42
_CARD, _SIDE = (1.55, 1.95), 1.35
_LEFT: Final = 0.22


def image_size(rows: Sequence[LayerRow]) -> tuple[int, int]:
    """Return height and width of the image as the first layer's output tells them, or 0 and 0."""
    first = rows[0]
    if first.receptive_field is None or len(first.shape) != 3:
        return 0, 0
    down, across = first.receptive_field.step
    return first.shape[1] * down, first.shape[2] * across


@dataclass(frozen=True)
class _Seen:
    """What the middle place of some layers sees: a box of the image, and how that is said."""

    box: tuple[int, int, int, int]
    words: str
    layers: list[str]


def _box(row: LayerRow, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return what the middle place of a layer sees: top, left, bottom, right."""
    if row.receptive_field is None:
        return 0, 0, *size
    # The units of a flattened layer see what the places of the layer before do.
    y, x = (side // 2 for side in row.shape[1:]) if len(row.shape) == 3 else (0, 0)
    return row.receptive_field.box(y, x, size)


def sees(row: LayerRow, size: tuple[int, int]) -> str:
    """Return in words what the middle place of a layer sees of an image."""
    field = row.receptive_field
    if field is None or _box(row, size) == (0, 0, *size):
        return "whole image"
    return f"{field.height}×{field.width}"


def _unflattened(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """Leave out layers that only lay in a row what the layer before them sees."""
    return [row for row in rows if row.receptive_field is None or len(row.shape) == 3]


def _seen(rows: Sequence[LayerRow], size: tuple[int, int]) -> list[_Seen]:
    """Return what layers see, those together that follow each other and see the same."""
    found: list[_Seen] = []
    for row in _unflattened(rows):
        box, words = _box(row, size), sees(row, size)
        if row.receptive_field is not None and words[0].isdigit():
            top, left, bottom, right = box
            whole = (row.receptive_field.height, row.receptive_field.width)
            words += " pixels" if (bottom - top, right - left) == whole else ", cut at the edge"
        if not found or found[-1].words != words:
            found.append(_Seen(box, words, []))
        found[-1].layers.append(row.name)
    return found


def fields_title(rows: Sequence[LayerRow], size: tuple[int, int]) -> str:
    """Say from which layer on a unit sees the whole image."""
    last = _seen(rows, size)[-1]
    if last.box != (0, 0, *size):
        return f"No unit sees more than {sees(_unflattened(rows)[-1], size)} pixels"
    first = next(row for row in rows if row.name == last.layers[0])
    if first is rows[-1]:
        return f"Only {first.name} sees the whole image"
    unit = "each unit" if first.receptive_field is None else "the unit in the middle"
    return f"From {first.name} on, {unit} sees the whole image"


def draw_receptive_fields(rows: Sequence[LayerRow], pixels: NDArray[np.uint8]) -> Figure:
    """Draw on an image what the middle place of each layer's maps sees of it."""
    size = (pixels.shape[0], pixels.shape[1])
    seen = _seen(rows, size)
    title = fields_title(rows, size)
    if len(seen) > _MOST:
        title += f" ({_MOST} of {len(seen)} sizes shown)"
        seen = [seen[round(place)] for place in np.linspace(0, len(seen) - 1, _MOST)]
    across = min(_ROW, max(3, len(seen)))
    width = across * _CARD[0] + 0.1
    lines = textwrap.wrap(title, int(10.5 * width))
    top = 0.25 + 0.17 * len(lines)
    height = top + math.ceil(len(seen) / across) * _CARD[1]
    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.text(0.1, 0.08, "\n".join(lines), fontsize=10.5, fontweight="bold", va="top")
    for place, each in enumerate(seen):
        down, right = divmod(place, across)
        _draw_seen(axes, pixels, each, 0.1 + right * _CARD[0], top + down * _CARD[1])
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.axis("off")
    return figure


def _draw_seen(axes: Axes, pixels: NDArray[np.uint8], seen: _Seen, left: float, top: float) -> None:
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
