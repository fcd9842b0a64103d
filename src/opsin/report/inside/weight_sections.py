"""Sections on weights and on linear probes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.epoch import Epoch
from opsin.report.figures.inspection_charts import norms_of, norms_title, probes_title
from opsin.report.inside.inspection_page import Section, section
from opsin.report.inside.weight_images import (
    Sheet,
    Tile,
    kernel_sheet,
    matrix_sheet,
    tile_address,
)
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
class Shown:
    """A layer as the page shows it.

    Args:
        view: What it holds.
        note: What its images are.
        limit: End of the colour scale; ``None`` where each image has its own.
        tiles: An image for each unit, in folds.
        sheets: Maps of many units each.
        rgb: Whether the images are red, green and blue.
    """

    view: WeightView
    note: str = ""
    limit: float | None = None
    tiles: Sequence[Sequence[Tile]] = ()
    sheets: Sequence[Sheet] = ()
    rgb: bool = False


def weight_sections(
    views: Sequence[WeightView],
    history: Sequence[Epoch],
    drawn: Mapping[str, str],
    *,
    classes: Sequence[str] = (),
) -> list[Section]:
    """Return the sections on weights: the first layer, all layers, how their norms grew.

    Args:
        views: Of each layer that holds weights (`opsin.inspection.weights.weight_views`).
        history: The lines of ``history.jsonl``; those without ``norms`` are passed over.
        drawn: The figures by name, as SVG: ``norms`` (left out where it is missing).
        classes: Names of the classes, for the last layer's rows.
    """
    if not views:
        return [section("weights", "No weights to show", "weights.html", part="none")]
    whole = _drawn_whole(views)
    shown = [_shown(view, classes if view is views[-1] else (), whole) for view in views]
    found = []
    first = next((one for one in shown if one.tiles), None)
    if first is not None:
        title = _first_title(first.view)
        found.append(
            section(
                "first-layer",
                title,
                "weights.html",
                part="first",
                layer=first,
                gradient=gradient("PuOr"),
            )
        )
    total = sum(view.parameters for view in views)
    layers = "layer" if len(views) == 1 else "layers"
    title = f"{total:,} parameters in {len(views)} {layers} with weights"
    bars = [[_bars(values) for values in view.values] for view in views]
    found.append(
        section(
            "weights",
            title,
            "weights.html",
            part="all",
            layers=shown,
            bars=bars,
            first=first,
            gradient=gradient("PuOr"),
        )
    )
    if "norms" in drawn:
        epochs, norms = norms_of(history)
        found.append(
            section(
                "norms", norms_title(history), "weights.html", part="norms",
                svg=themed(drawn["norms"]), epochs=epochs,
                rows=[(name, values[0], values[-1]) for name, values in norms.items()],
            )
        )  # fmt: skip
    return found


def probe_sections(probes: Probes, drawn: Mapping[str, str]) -> list[Section]:
    """Return the section on linear probes.

    Args:
        probes: What was measured.
        drawn: The figures by name, as SVG: ``probes``.
    """
    title = probes_title(probes.probes)
    svg = themed(drawn["probes"])
    return [section("probes", title, "weights.html", part="probes", probes=probes, svg=svg)]


def _first_title(view: WeightView) -> str:
    if view.images is None:
        return "What the first layer looks for"
    count, height, width, _ = view.images.weights.shape
    what = view.images.kind
    return f"What the first layer looks for: {count:,} {what} of {height}×{width} pixels"


def _drawn_whole(views: Sequence[WeightView]) -> set[str]:
    """Return the layers whose kernels there is room for, the smallest first."""
    room, whole = _ALL_POINTS, set()
    sizes = [(view.images.weights.size, view.name) for view in views
             if view.images and view.images.kind == "kernels"]  # fmt: skip
    for size, name in sorted(sizes):
        room -= size
        if size <= _POINTS and room >= 0:
            whole.add(name)
    return whole


def _shown(view: WeightView, classes: Sequence[str], whole: set[str]) -> Shown:
    images = view.images
    if images is None:
        return Shown(view)
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
    return Shown(
        view,
        f"{rows} a kernel of {height}×{width} for each of the {maps:,} maps of {source}.",
        limit,
        sheets=[
            kernel_sheet(weights[start : start + _UNITS], start, limit)
            for start in range(0, len(weights), _UNITS)
        ],
    )


def _as_tiles(view: WeightView, images: WeightImages, classes: Sequence[str]) -> Shown:
    weights, count = images.weights, len(images.weights)
    factor = math.ceil(math.sqrt(weights.size / _TILE_NUMBERS))
    own = images.kind == "filters"
    strongest = np.abs(weights).reshape(count, -1).max(axis=1)
    limits = np.where(strongest > 0, strongest, 1.0) if own else np.full(count, images.limit)
    names = list(classes) if len(classes) == count else [str(unit) for unit in range(count)]
    tiles = [
        Tile(name, tile_address(unit, float(limit), factor), float(strong))
        for name, unit, limit, strong in zip(names, weights, limits, strongest, strict=True)
    ]
    notes = ["Each has a colour scale of its own, whose ends stand under it."] if own else []
    if factor > 1:
        notes.append(f"Each point is the mean of {factor}×{factor} pixels.")
    folds = [tiles[start : start + _TILES] for start in range(0, count, _TILES)]
    limit = None if own else images.limit
    return Shown(view, " ".join(notes), limit, tiles=folds, rgb=weights.shape[3] == 3)


def _as_matrix(
    view: WeightView, matrix: NDArray[Any], limit: float, note: str, classes: Sequence[str]
) -> Shown:
    sheet, (down, across) = matrix_sheet(matrix, limit, classes)
    if down > 1 or across > 1:
        note += f" Each point is the strongest of {down}×{across} numbers."
    return Shown(view, note, limit, sheets=[sheet])


def _bars(values: TensorSummary) -> str:
    """Return a histogram's outline for an SVG path, 160 wide and 40 high."""
    top = max(int(values.counts.max()), 1)
    wide = 160 / len(values.counts)
    return "".join(
        f"M{place * wide:.4g} 40v{-40 * count / top:.3g}h{wide - 0.6:.4g}V40z"
        for place, count in enumerate(values.counts.tolist())
        if count
    )
