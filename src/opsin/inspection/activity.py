"""Activity of units over many training images: which are dead, which saturated."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from opsin.core.arrays import Bools, Doubles, Floats, Ints
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, RunError, StorageError
from opsin.core.events import SILENT, Watcher, watched
from opsin.core.metadata import Layer, LayerOp
from opsin.data.lazy_images import ReferenceSet
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import traits_of
from opsin.runtime.classifier import Classifier

#: |value| of a tanh above which it hardly changes any more, and the share of places (and images)
#: from which a unit counts as saturated.
SATURATED_ABOVE: Final = 0.99
SATURATED_SHARE: Final = 0.95
# Spread of a constant unit, as a share of the layer's largest |value|: what rounding makes.
_CONSTANT: Final = 1e-6
# The figures of a unit, in the order of the file.
COLUMNS: Final = ("lowest", "highest", "mean", "deviation", "active", "saturation")
#: Images that are looked at: a unit that is active for one in 300 is found with 96%.
IMAGES: Final = 1000
# Raised when the figures mean something else than before, so that older files are made anew.
_FORMAT: Final = 1


@dataclass(frozen=True)
class UnitActivity:
    """Activity of the C units of one layer over images and places, ``float64[C]`` each."""

    JSON: ClassVar = (
        "lowest highest mean deviation active saturation dead=_dead saturated=_saturated"
    )
    op: LayerOp
    lowest: Doubles = field(repr=False)
    highest: Doubles = field(repr=False)
    mean: Doubles = field(repr=False)
    deviation: Doubles = field(repr=False)
    active: Doubles = field(repr=False)  # share of its places above 0
    saturation: Doubles = field(repr=False)  # share beyond ±0.99, of tanh alone

    @property
    def dead(self) -> Bools:
        """Units that were never above 0 after ReLU, or constant after other activations."""
        if self.op is LayerOp.RELU:
            return np.asarray(self.highest <= 0)
        largest = np.maximum(np.abs(self.lowest), np.abs(self.highest)).max(initial=0.0)
        return np.asarray(self.highest - self.lowest <= _CONSTANT * largest)

    @property
    def saturated(self) -> Bools:
        """Units of a tanh that are at one of its ends in 95% of the places, ``bool[C]``."""
        return np.asarray(self.saturation >= SATURATED_SHARE)

    @property
    def _dead(self) -> Ints:
        return np.flatnonzero(self.dead)

    @property
    def _saturated(self) -> Ints:
        return np.flatnonzero(self.saturated)


@dataclass(frozen=True)
class Activity:
    """Activity of the units of each layer over many images, by the layer's name."""

    JSON: ClassVar = "images layers"
    images: int
    layers: Mapping[str, UnitActivity]


class ActivityRecord:
    """Running figures of layers, from values that come batch by batch."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers, self._images = tuple(layers), 0
        # Of each layer: lowest, highest, the sums of values and of their squares, how many are
        # active, how many saturated, and how many there are.
        self._figures = {layer.name: np.zeros((7, layer.shape[0])) for layer in layers}
        for figures in self._figures.values():
            figures[0], figures[1] = np.inf, -np.inf

    def add(self, values: Mapping[str, Floats]) -> None:
        """Take the values of some images, each layer's as ``float32[N, C, …]``."""
        for layer in self._layers:
            flat = values[layer.name].reshape(*values[layer.name].shape[:2], -1)
            figures = self._figures[layer.name]
            figures[0] = np.minimum(figures[0], flat.min(axis=(0, 2)))
            figures[1] = np.maximum(figures[1], flat.max(axis=(0, 2)))
            figures[2] += flat.sum(axis=(0, 2), dtype=np.float64)
            figures[3] += np.einsum("ncp,ncp->c", flat, flat, dtype=np.float64)
            figures[4] += np.count_nonzero(flat > 0, axis=(0, 2))
            if layer.op is LayerOp.TANH:
                figures[5] += np.count_nonzero(np.abs(flat) > SATURATED_ABOVE, axis=(0, 2))
            figures[6] += flat.shape[0] * flat.shape[2]
        self._images += len(next(iter(values.values())))

    def result(self) -> Activity:
        """The figures so far; there must have been an image."""
        layers = {}
        for layer in self._layers:
            lowest, highest, *sums, count = self._figures[layer.name]
            mean, squares, active, saturated = (each / count for each in sums)
            deviation = np.sqrt(np.maximum(squares - mean**2, 0))
            figures = (lowest, highest, mean, deviation, active, saturated)
            layers[layer.name] = UnitActivity(layer.op, *figures)
        return Activity(self._images, layers)


def activity_of(
    classifier: Classifier,
    network: OnnxGraph,
    known: Callable[[], ReferenceSet] | None,
    *,
    watcher: Watcher = SILENT,
) -> Activity | None:
    """Activity of each unit over 1,000 training images; ``None`` without images."""
    layers = tuple(layer for layer in classifier.metadata.layers if traits_of(layer.op).has_units)
    digest = hashlib.sha256(classifier.content).hexdigest()
    directory = RunDirectory(classifier.path.parent)
    in_run = directory.recipe.is_file()
    if in_run and (kept := _read(directory, digest, layers)) is not None:
        return kept
    if known is None or not layers:
        return None
    try:
        images = known()
    except OpsinError as error:
        watcher.note(f"dead and saturated units are not marked: {error}")
        return None
    rows = images.train if len(images.train) else np.arange(len(images.images))
    if not len(rows):
        return None
    rows = rows[np.linspace(0, len(rows) - 1, min(IMAGES, len(rows))).astype(np.int64)]
    record, names = ActivityRecord(layers), [layer.name for layer in layers]
    batches = network.stream(names, images.images, rows)
    for _, values in watched(watcher, "Units", len(rows), batches, size=lambda one: len(one[0])):
        record.add(values)
    activity = record.result()
    if in_run and images.own:
        units = activity.layers
        # A run on a read-only disk can be looked at all the same.
        with contextlib.suppress(StorageError):
            directory.save_arrays(
                directory.inspection / "activity.npz",
                format=np.array(_FORMAT),
                classifier=np.array(digest),
                images=np.array(activity.images),
                layers=np.array(list(units)),
                units=np.array([len(layer.mean) for layer in units.values()]),
                figures=np.stack(
                    [
                        np.concatenate([getattr(layer, column) for layer in units.values()])
                        for column in COLUMNS
                    ]
                ),
            )
    return activity


def _read(directory: RunDirectory, digest: str, layers: tuple[Layer, ...]) -> Activity | None:
    """The figures in a run's file, unless it is missing, damaged or another classifier's."""
    names, units = [layer.name for layer in layers], [layer.shape[0] for layer in layers]
    try:
        arrays = directory.load_arrays(directory.inspection / "activity.npz")
        figures, images = arrays["figures"].astype(np.float64), int(arrays["images"])
        if (
            [int(arrays["format"]), str(arrays["classifier"])] != [_FORMAT, digest]
            or arrays["layers"].tolist() != names
            or arrays["units"].tolist() != units
            or figures.shape != (len(COLUMNS), sum(units))
        ):
            return None
    except (RunError, ValueError, TypeError):
        return None
    parts = np.split(figures, np.cumsum(units)[:-1], axis=1)
    pairs = zip(layers, parts, strict=True)
    return Activity(images, {layer.name: UnitActivity(layer.op, *part) for layer, part in pairs})
