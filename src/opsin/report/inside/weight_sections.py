"""Sections on weights and on linear probes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.records import Epoch
from opsin.report.figures.inspection_charts import norms_of, norms_title, probes_title
from opsin.report.inside.inspection_page import Section, section
from opsin.report.inside.weight_images import Sheet, kernel_sheet, matrix_sheet, tile_address
from opsin.report.maps import gradient
from opsin.report.run_page import themed

if TYPE_CHECKING:
    from opsin.inspection.probes import Probes
    from opsin.inspection.weights import TensorSummary, WeightImages, WeightView

# Images, and units of a map of kernels, that a fold of the page holds.
_TILES, _UNITS = 128, 64
# Weights of one layer, and of all, whose kernels are drawn weight by weight.
_POINTS, _ALL_POINTS = 1_000_000, 4_000_000
# Numbers of all tiles of one layer: larger ones are made smaller.
_TILE_NUMBERS: Final = 4_000_000


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


def weight_sections(
    views: Sequence[WeightView],
    history: Sequence[Epoch],
    drawn: Mapping[str, str],
    *,
    classes: Sequence[str] = (),
) -> list[Section]:
    """Return the sections on weights: the first layer, all layers, how their norms grew."""
    if not views:
        return [section("weights", "No weights to show", "weights.html", part="none")]
    # The layers whose kernels there is room for, the smallest first.
    room, whole = _ALL_POINTS, set()
    sizes = [(view.images.weights.size, view.name) for view in views
             if view.images and view.images.kind == "kernels"]  # fmt: skip
    for size, name in sorted(sizes):
        room -= size
        if size <= _POINTS and room >= 0:
            whole.add(name)
    layers = [_drawn(view, classes if view is views[-1] else (), whole) for view in views]
    colours, found = gradient("PuOr"), []
    first = next((layer for layer in layers if layer.tiles), None)
    if first is not None and first.view.images is not None:
        count, height, width, _ = first.view.images.weights.shape
        what = f"{count:,} {first.view.images.kind} of {height}×{width} pixels"
        title = f"What the first layer looks for: {what}"
        found.append(
            section("first-layer", title, "weights.html", part="first", layer=first,
                    gradient=colours)
        )  # fmt: skip
    total = sum(view.parameters for view in views)
    title = (
        f"{total:,} parameters in {len(views)} {'layers' if views[1:] else 'layer'} with weights"
    )
    found.append(
        section("weights", title, "weights.html", part="all", layers=layers, bars=_bars,
                first=first, gradient=colours)
    )  # fmt: skip
    if "norms" in drawn:
        epochs, norms = norms_of(history)
        rows = [(name, values[0], values[-1]) for name, values in norms.items()]
        found.append(
            section("norms", norms_title(history), "weights.html", part="norms",
                    svg=themed(drawn["norms"]), epochs=epochs, rows=rows)
        )  # fmt: skip
    return found


def probe_sections(probes: Probes, drawn: Mapping[str, str]) -> list[Section]:
    """Return the section on linear probes, with the figure ``probes`` as SVG."""
    title, svg = probes_title(probes.probes), themed(drawn["probes"])
    return [section("probes", title, "weights.html", part="probes", probes=probes, svg=svg)]


def _drawn(view: WeightView, classes: Sequence[str], whole: set[str]) -> _Drawn:
    images = view.images
    if images is None:
        return _Drawn(view)
    if images.kind in ("filters", "units"):
        return _as_tiles(view, images, classes)
    source, weights, limit = " and ".join(images.sources), images.weights, images.limit
    rows = f"A row for each of the {len(weights):,} units, in it"
    if images.kind == "matrix":
        numbers = f"its weights of the {weights.shape[1]:,} numbers of {source}."
        return _as_matrix(view, weights, limit, f"{rows} {numbers}", classes)
    maps, height, width = weights.shape[1:]
    if view.name not in whole:
        norms = np.sqrt((weights.astype(np.float64) ** 2).sum(axis=(2, 3)))
        note = (
            f"Too many kernels to draw them weight by weight. {rows} the norms of its kernels, one "
            f"for each of the {maps:,} maps of {source}."
        )
        return _as_matrix(view, norms, float(np.quantile(norms, 0.995)) or 1.0, note, ())
    starts = range(0, len(weights), _UNITS)
    return _Drawn(
        view,
        f"{rows} a kernel of {height}×{width} for each of the {maps:,} maps of {source}.",
        limit,
        sheets=[kernel_sheet(weights[start : start + _UNITS], start, limit) for start in starts],
    )


def _as_tiles(view: WeightView, images: WeightImages, classes: Sequence[str]) -> _Drawn:
    weights, count = images.weights, len(images.weights)
    factor = math.ceil(math.sqrt(weights.size / _TILE_NUMBERS))
    own = images.kind == "filters"
    names = list(classes) if len(classes) == count else [str(unit) for unit in range(count)]
    tiles = []
    for name, unit in zip(names, weights, strict=True):
        strongest = float(np.abs(unit).max())
        limit = (strongest or 1.0) if own else images.limit
        tiles.append((name, tile_address(unit, limit, factor), strongest))
    notes = ["Each has a colour scale of its own, whose ends stand under it."] if own else []
    if factor > 1:
        notes.append(f"Each point is the mean of {factor}×{factor} pixels.")
    return _Drawn(view, " ".join(notes), None if own else images.limit, tiles=tiles)


def _as_matrix(
    view: WeightView, matrix: NDArray[Any], limit: float, note: str, classes: Sequence[str]
) -> _Drawn:
    sheet, (down, across) = matrix_sheet(matrix, limit, classes)
    if down > 1 or across > 1:
        note += f" Each point is the strongest of {down}×{across} numbers."
    return _Drawn(view, note, limit, sheets=[sheet])


def _bars(values: TensorSummary) -> str:
    """Return a histogram's outline for an SVG path, 160 wide and 40 high."""
    top = max(int(values.counts.max()), 1)
    wide = 160 / len(values.counts)
    return "".join(
        f"M{place * wide:.4g} 40v{-40 * count / top:.3g}h{wide - 0.6:.4g}V40z"
        for place, count in enumerate(values.counts.tolist())
        if count
    )
