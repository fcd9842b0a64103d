"""What each unit does over many training images: which are dead, which saturated."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, RunError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import Layer, LayerOp
from opsin.core.stored_json import JsonObject
from opsin.data.reference_set import ReferenceSet
from opsin.inspection.layers import iter_batches
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import traits_of
from opsin.runtime.classifier import Classifier

#: |value| of a tanh above which it hardly changes any more, and the share of places (and images)
#: from which a unit counts as saturated.
SATURATED_ABOVE: Final = 0.99
SATURATED_SHARE: Final = 0.95
# Spread of a constant unit, as a share of the layer's largest |value|: what rounding makes.
_CONSTANT: Final = 1e-6
#: The columns of `UnitActivity.table`.
COLUMNS: Final = ("lowest", "highest", "mean", "deviation", "active", "saturation")
#: Images that are looked at: a unit that is active for one in 300 is found with 96%.
IMAGES: Final = 1000
# Raised when the figures mean something else than before, so that older files are made anew.
_FORMAT: Final = 1


@dataclass(frozen=True)
class UnitActivity:
    """What the units of one layer did, over images and places.

    Args:
        op: What the layer computes.
        lowest: Smallest value of each unit, ``float64[C]``.
        highest: Its largest.
        mean: Its mean.
        deviation: Its standard deviation.
        active: Share of its places above 0, 0 to 1.
        saturation: Share of its places beyond ±0.99; 0 for all but tanh.
    """

    op: LayerOp
    lowest: NDArray[np.float64] = field(repr=False)
    highest: NDArray[np.float64] = field(repr=False)
    mean: NDArray[np.float64] = field(repr=False)
    deviation: NDArray[np.float64] = field(repr=False)
    active: NDArray[np.float64] = field(repr=False)
    saturation: NDArray[np.float64] = field(repr=False)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Units that tell nothing, ``bool[C]``.

        After ReLU, those that were never above 0; elsewhere those that always had one value, but
        for rounding.
        """
        if self.op is LayerOp.RELU:
            return np.asarray(self.highest <= 0)
        largest = np.maximum(np.abs(self.lowest), np.abs(self.highest)).max(initial=0.0)
        return np.asarray(self.highest - self.lowest <= _CONSTANT * largest)

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """Units of a tanh that are at one of its ends in 95% of the places, ``bool[C]``."""
        return np.asarray(self.saturation >= SATURATED_SHARE)

    def table(self) -> NDArray[np.float64]:
        """Return all figures as ``float64[6, C]``, in the order of `COLUMNS`."""
        return np.stack([getattr(self, column) for column in COLUMNS])

    def to_json(self) -> JsonObject:
        """Return the figures as plain data."""
        figures: JsonObject = {column: getattr(self, column).tolist() for column in COLUMNS}
        return figures | {
            "dead": np.flatnonzero(self.dead).tolist(),
            "saturated": np.flatnonzero(self.saturated).tolist(),
        }


@dataclass(frozen=True)
class Activity:
    """What the units of each layer did over many images.

    Args:
        images: How many images that were.
        layers: By the layer's name; layers without units of their own are left out.
    """

    images: int
    layers: Mapping[str, UnitActivity]

    def to_json(self) -> JsonObject:
        """Return the figures as plain data."""
        layers = {name: units.to_json() for name, units in self.layers.items()}
        return {"images": self.images, "layers": layers}


def layers_with_units(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers that compute something of their own.

    Normalising, flattening and dropout pass on what they are given.
    """
    return tuple(layer for layer in layers if traits_of(layer.op).has_units)


class ActivityRecord:
    """Takes the values of layers batch by batch, and keeps a few numbers a unit.

    Means and deviations are merged as in T. Chan, G. Golub and R. LeVeque, "Algorithms for
    computing the sample variance", The American Statistician 37, 1983.

    Args:
        layers: The layers whose values will come.

    Example:
        >>> relu = Layer(name="relu1", kind="ReLU", shape=(2,), parameters=0, trainable=0,
        ...              multiply_adds=0)
        >>> record = ActivityRecord([relu])
        >>> record.add({"relu1": np.array([[0, 1], [0, 3]], np.float32)})
        >>> units = record.result().layers["relu1"]
        >>> units.dead.tolist(), units.mean.tolist(), units.deviation.tolist()
        ([True, False], [0.0, 2.0], [0.0, 1.0])
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._sums = {layer.name: _Sums(layer) for layer in layers}
        self._images = 0

    def add(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Take the values of some images, each layer's as ``float32[N, C, …]``."""
        for name, sums in self._sums.items():
            sums.add(values[name])
        self._images += len(next(iter(values.values())))

    def result(self) -> Activity:
        """Return the figures so far; there must have been an image."""
        return Activity(self._images, {name: sums.result() for name, sums in self._sums.items()})


class _Sums:
    """The running figures of one layer."""

    def __init__(self, layer: Layer) -> None:
        units = layer.shape[0]
        self._op = layer.op
        self._count = 0
        self._lowest = np.full(units, np.inf)
        self._highest = np.full(units, -np.inf)
        self._mean = np.zeros(units)
        self._squares = np.zeros(units)
        self._active = np.zeros(units, np.int64)
        self._saturated = np.zeros(units, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        images, units = values.shape[:2]
        places = values[0, 0].size
        # Over the images first: that runs along the memory, however small the maps.
        rows = values.reshape(images, units * places)
        wide = (units, places)
        self._lowest = np.minimum(self._lowest, rows.min(axis=0).reshape(wide).min(axis=1))
        self._highest = np.maximum(self._highest, rows.max(axis=0).reshape(wide).max(axis=1))
        self._active += _true(rows > 0).reshape(wide).sum(axis=1)
        if self._op is LayerOp.TANH:
            beyond = _true(np.abs(rows) > SATURATED_ABOVE)
            self._saturated += beyond.reshape(wide).sum(axis=1)
        count = images * places
        mean = rows.sum(axis=0, dtype=np.float64).reshape(wide).sum(axis=1) / count
        away = rows - np.repeat(mean.astype(np.float32), places)
        squares = np.einsum("nk,nk->k", away, away).astype(np.float64)
        # What the mean lost as float32 is made good.
        lost = count * (mean - mean.astype(np.float32)) ** 2
        apart, together = mean - self._mean, self._count + count
        self._squares += np.maximum(squares.reshape(wide).sum(axis=1) - lost, 0.0)
        self._squares += apart**2 * (self._count * count / together)
        self._mean += apart * (count / together)
        self._count = together

    def result(self) -> UnitActivity:
        return UnitActivity(
            self._op,
            self._lowest,
            self._highest,
            self._mean,
            np.sqrt(self._squares / self._count),
            self._active / self._count,
            self._saturated / self._count,
        )


def _true(found: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count along the first axis, ``bool[N, M]``; eight times as fast as NumPy's own."""
    total = np.zeros(found.shape[1], np.int64)
    for start in range(0, len(found), 255):  # as far as a byte counts
        total += np.add.reduce(found[start : start + 255].view(np.uint8), axis=0, dtype=np.uint8)
    return total


def activity_of(
    classifier: Classifier,
    network: OnnxGraph,
    known: Callable[[], ReferenceSet] | None,
    *,
    watcher: Watcher = SILENT,
) -> Activity | None:
    """Return what each unit does over 1,000 training images, from the run's file if it has one.

    The images are spread evenly over the training images, the same ones every time. The file
    ``inspection/activity.npz`` belongs to one classifier.onnx, by its SHA-256; where it is
    damaged or belongs to another, it is made anew. Nothing is written where the classifier lies in
    no run directory, where that cannot be written to, or of images that are not the run's.

    Args:
        classifier: An open classifier.
        network: Its network.
        known: Returns the images that it learnt from; asked only where there is no file.
        watcher: Receives the progress, and a note when the images are gone.

    Returns:
        The figures; ``None`` without images.
    """
    layers = layers_with_units(classifier.metadata.layers)
    digest = hashlib.sha256(classifier.content).hexdigest()
    directory = RunDirectory(classifier.path.parent)
    file = directory.inspection / "activity.npz"
    in_run = directory.recipe.is_file()
    if in_run and (kept := _read(directory, file, digest, layers)) is not None:
        return kept
    if known is None or not layers:
        return None
    try:
        images = known()
    except OpsinError as error:
        watcher.note(f"dead and saturated units are not marked: {error}")
        return None
    rows = _spread(images)
    if not len(rows):
        return None
    record, names = ActivityRecord(layers), [layer.name for layer in layers]
    done = 0
    watcher.begin("Units", len(rows), "images")
    for values in iter_batches(classifier, network, images.images, names, rows):
        record.add(values)
        done += len(values[names[0]])
        watcher.advance(done)
    watcher.end()
    activity = record.result()
    if in_run and images.own:
        # A run on a read-only disk can be looked at all the same.
        with contextlib.suppress(StorageError):
            directory.save_arrays(file, **_arrays(activity, digest))
    return activity


def _spread(known: ReferenceSet) -> NDArray[np.int64]:
    """Return rows of training images, or of any where there are none to train on."""
    rows = known.train if len(known.train) else np.arange(len(known.images))
    count = min(IMAGES, len(rows))
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)] if count else rows


def _arrays(activity: Activity, digest: str) -> dict[str, NDArray[np.generic]]:
    """Return the figures as few arrays: opening each of a hundred would take longer than all."""
    return {
        "format": np.array(_FORMAT),
        "classifier": np.array(digest),
        "images": np.array(activity.images),
        "layers": np.array(list(activity.layers)),
        "units": np.array([len(units.mean) for units in activity.layers.values()]),
        "figures": np.concatenate([units.table() for units in activity.layers.values()], axis=1),
    }


def _read(
    directory: RunDirectory, file: Path, digest: str, layers: tuple[Layer, ...]
) -> Activity | None:
    """Return what the file holds; ``None`` where it is missing, damaged or another's."""
    names, units = [layer.name for layer in layers], [layer.shape[0] for layer in layers]
    try:
        arrays = directory.load_arrays(file)
        stated = [int(arrays["format"]), str(arrays["classifier"])]
        figures, images = arrays["figures"].astype(np.float64), int(arrays["images"])
        if (
            stated != [_FORMAT, digest]
            or arrays["layers"].tolist() != names
            or arrays["units"].tolist() != units
            or figures.shape != (len(COLUMNS), sum(units))
        ):
            return None
    except (RunError, KeyError, ValueError, TypeError):
        return None
    parts = np.split(figures, np.cumsum(units)[:-1], axis=1)
    return Activity(
        images,
        {
            layer.name: UnitActivity(layer.op, *part)
            for layer, part in zip(layers, parts, strict=True)
        },
    )
