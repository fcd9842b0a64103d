"""Images that activate each unit of a layer most, and the classes it fires for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Bools, Doubles, Floats, Ints, Pixels
from opsin.core.errors import ModelFileError, RecipeError
from opsin.core.events import SILENT, Watcher, watched
from opsin.core.metadata import Layer
from opsin.data.lazy_images import Images, ReferenceSet
from opsin.data.spelling import check_choices, places_among
from opsin.onnx_files.onnx_graph import OnnxGraph, ReceptiveField
from opsin.runtime.classifier import Classifier

#: Images shown, and kept, for each unit.
BEST: Final = 9
KEPT: Final = 100
# Share of the mean activity below which a deviation is rounding.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class TopActivation:
    """One of the images that activate a unit most."""

    JSON: ClassVar = "row name label value place box"
    row: int
    name: str
    label: str
    value: float  # the largest of the unit's map on it
    place: tuple[int, int] | None  # row and column of that; None: the unit has no map
    box: tuple[int, int, int, int]  # what it sees there: top, left, bottom, right in pixels
    images: Images = field(repr=False, compare=False)

    @property
    def pixels(self) -> Pixels:
        """The whole image, ``uint8[H, W, C]``, read when it is asked for."""
        return np.asarray(self.images[self.row])

    @property
    def patch(self) -> Pixels:
        """The unit's receptive field in it, ``uint8[h, w, C]``."""
        top, left, bottom, right = self.box
        return self.pixels[top:bottom, left:right]


@dataclass(frozen=True)
class Unit:
    """One unit of a layer."""

    JSON: ClassVar = "unit=number favourite steady=constant best mix mean selectivity"
    number: int
    best: tuple[TopActivation, ...]  # the strongest first
    mix: dict[str, int]  # of the hundred images that excite it most: how many of each class
    mean: dict[str, float | None]  # mean activity for each class; None: no images of it
    selectivity: dict[str, float]  # how far each class lifts it, in deviations
    constant: bool  # the same on all images, as a dead unit is

    @property
    def favourite(self) -> str:
        """The class that lifts it most."""
        return max(self.selectivity, key=self.selectivity.__getitem__)


@dataclass(frozen=True)
class UnitMatch:
    """A unit that fires for a class: its mean activity for the class and for all other images."""

    unit: int
    selectivity: float
    mean: float
    rest: float


@dataclass(frozen=True)
class UnitGallery:
    """The units of a layer, with the images that activate them most."""

    JSON: ClassVar = "layer=layer.name kind=layer.kind shape=layer.shape images sees units"
    layer: Layer
    classes: tuple[str, ...]
    field: ReceptiveField | None  # what a place of its maps sees; None: the whole image
    record: UnitRecord
    known: ReferenceSet

    @property
    def images(self) -> int:
        """Number of training images."""
        return int(self.record.counts.sum())

    @property
    def sees(self) -> tuple[int, int] | None:
        """Height and width of a unit's receptive field in pixels; ``None``: the whole image."""
        return None if self.field is None else (self.field.height, self.field.width)

    @property
    def units(self) -> list[Unit]:
        """All of them."""
        return [self.unit(number) for number in range(len(self))]

    def __len__(self) -> int:
        return len(self.record.rows)

    def unit(self, number: int) -> Unit:
        """One unit."""
        if not 0 <= number < len(self):
            units = f"its units are 0 to {len(self) - 1}"
            raise ModelFileError(f"{self.layer.name} has no unit {number}; {units}")
        mix, mean = self.record.mix[number], self.record.mean[number]
        shown = min(BEST, int(self.record.rows.shape[1]))
        means = {
            name: float(value) if count else None
            for name, value, count in zip(self.classes, mean, self.record.counts, strict=True)
        }
        return Unit(
            number,
            tuple(self._top(number, rank) for rank in range(shown)),
            {self.classes[k]: int(mix[k]) for k in np.argsort(-mix, kind="stable") if mix[k]},
            means,
            dict(zip(self.classes, map(float, self.record.selectivity[number]), strict=True)),
            constant=bool(self.record.constant[number]),
        )

    def _top(self, number: int, rank: int) -> TopActivation:
        row = int(self.record.rows[number, rank])
        _, height, width, _ = self.known.images.shape
        position, box = None, (0, 0, height, width)
        if len(self.layer.shape) == 3:
            y, x = divmod(int(self.record.places[number, rank]), self.layer.shape[2])
            position = y, x
            if self.field is not None:
                box = self.field.box(y, x, (height, width))
        name, label = self.known.names[row], self.classes[self.known.labels[row]]
        value = float(self.record.values[number, rank])
        return TopActivation(row, name, label, value, position, box, self.known.images)

    def search(self, class_name: str) -> list[UnitMatch]:
        """The units that fire for a class, the most selective first."""
        (index,) = places_among([class_name], self.classes)
        if index < 0:
            check_choices("class", [class_name], self.classes)
        figures = self.record.selectivity, self.record.mean, self.record.rest
        by, mean, rest = (each[:, index] for each in figures)
        return [
            UnitMatch(int(unit), float(by[unit]), float(mean[unit]), float(rest[unit]))
            for unit in np.argsort(-by, kind="stable")
            if by[unit] > 0
        ]


def unit_gallery(
    classifier: Classifier,
    network: OnnxGraph,
    known: ReferenceSet,
    layer: str,
    *,
    limit: int | None = None,
    watcher: Watcher = SILENT,
) -> UnitGallery:
    """Find the training images that activate each unit of a layer most."""
    row = network.layer(layer)
    if limit is not None and limit < 1:
        raise RecipeError(f"limit must be at least 1 image, not {limit}", "Leave it out for all.")
    rows = known.rows_of("train")
    if limit is not None and limit < len(rows):
        rows = rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]
    counter = UnitCounter(row.shape[0], len(classifier.classes))
    batches, what = network.stream([layer], known.images, rows), f"Units of {layer}"
    for some, values in watched(watcher, what, len(rows), batches, size=lambda one: len(one[0])):
        counter.add(values[layer], some, known.labels[some])
    field = network.receptive_field(layer)
    return UnitGallery(row, classifier.classes, field, counter.record(), known)


@dataclass(frozen=True)
class UnitRecord:
    """Figures of a layer's U units after N images of K classes; T images are kept for each."""

    rows: Ints  # the images that excite each unit most, the strongest first, [U, T]
    values: Floats  # the largest value of the unit's map on each, [U, T]
    places: Ints  # where in the map that is, counted row by row, [U, T]
    mix: Ints  # how many of these are of each class, [U, K]
    counts: Ints  # images of each class, [K]
    mean: Doubles  # mean activity for a class, [U, K]; NaN without images
    deviation: Doubles  # of the map's mean over all images, [U]

    @property
    def rest(self) -> Doubles:
        """The mean activity over the images of all other classes, ``float64[U, K]``."""
        totals = np.where(self.counts, self.mean, 0) * self.counts
        others = self.counts.sum() - self.counts
        with np.errstate(invalid="ignore", divide="ignore"):
            rest: Doubles = (totals.sum(axis=1, keepdims=True) - totals) / others
        return rest

    @cached_property
    def selectivity(self) -> Doubles:
        """A class's lift on a unit, in deviations, ``float64[U, K]``.

        It is the unit's mean activation on the class minus that on the rest, over the standard
        deviation of all: a standardised difference of means (J. Cohen, "Statistical power analysis
        for the behavioral sciences", 1988). 0 for a constant unit, and for a class without images.
        """
        apart = np.nan_to_num(self.mean - self.rest)
        width, moves = self.deviation[:, None], ~self.constant[:, None]
        return np.divide(apart, width, out=np.zeros_like(apart), where=moves)

    @cached_property
    def constant(self) -> Bools:
        """Units with one value on all images, as dead ones, ``bool[U]``."""
        rounding: Doubles = _ROUNDING * np.abs(np.nan_to_num(self.mean)).max(axis=1)
        return self.deviation <= rounding


class UnitCounter:
    """Builds a `UnitRecord` from a layer's maps, batch by batch."""

    def __init__(self, units: int, classes: int, *, keep: int = KEPT) -> None:
        self._units, self._keep = units, keep
        self._counts = np.zeros(classes, np.int64)
        self._mean = np.zeros((classes, units))
        self._squares = np.zeros(units)
        # Candidates, each with unit, value, row, place and class; thinned out now and then.
        self._found: list[tuple[NDArray[Any], ...]] = []
        self.waiting = 0
        # The weakest candidate of each unit, which an image must beat.
        self._least = np.full(units, -np.inf, np.float32)
        self._last = np.full(units, np.iinfo(np.int64).max)

    def add(self, maps: Floats, rows: Ints, labels: Ints) -> None:
        """Take the layer's output ``float32[B, U, …]`` for images of these rows and classes."""
        flat = maps.reshape(len(maps), self._units, -1)
        largest = flat.max(axis=2)
        largest[np.isnan(largest)] = -np.inf
        means = flat.mean(axis=2).astype(np.float64)
        order = np.argsort(labels, kind="stable")
        present, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        self._counts[present] += counts
        self._mean[present] += np.add.reduceat(means[order], starts, axis=0)
        self._squares += np.einsum("bu,bu->u", means, means)
        ahead = largest > self._least
        ahead |= (largest == self._least) & (rows[:, None] < self._last)
        which, units = np.nonzero(ahead)
        places = np.zeros(len(which), np.int64)
        if flat.shape[2] > 1:
            places = flat[which, units].argmax(axis=1)
        self._found.append((units, largest[which, units], rows[which], places, labels[which]))
        self.waiting += len(which)
        if self.waiting > self._units * self._keep:
            self._thin_out()

    def _thin_out(self) -> tuple[NDArray[Any], ...]:
        """Keep and return only the strongest of each unit, unit by unit."""
        units, values, rows, places, labels = map(np.concatenate, zip(*self._found, strict=True))
        order = np.lexsort((rows, -values, units))
        units = units[order]
        rank = np.arange(len(units)) - np.searchsorted(units, units)
        order = order[rank < self._keep]
        units = units[rank < self._keep]
        kept = (units, values[order], rows[order], places[order], labels[order])
        full = np.flatnonzero(np.bincount(units, minlength=self._units) == self._keep)
        last = np.searchsorted(units, full, side="right") - 1
        self._least[full], self._last[full] = kept[1][last], kept[2][last]
        self._found, self.waiting = [kept], 0
        return kept

    def record(self) -> UnitRecord:
        """The figures so far; at least one image must have come."""
        units, values, rows, places, labels = self._thin_out()
        shape, classes, counts = (self._units, -1), len(self._counts), self._counts
        with np.errstate(invalid="ignore"):
            mean = (self._mean / counts[:, None]).T
        overall = self._mean.sum(axis=0) / counts.sum()
        variance = self._squares / counts.sum() - overall**2
        mix = np.bincount(units * classes + labels, minlength=self._units * classes)
        return UnitRecord(
            rows.reshape(shape),
            values.reshape(shape),
            places.reshape(shape),
            mix.reshape(-1, classes),
            counts.copy(),
            np.ascontiguousarray(mean),
            np.sqrt(np.maximum(variance, 0)),
        )
