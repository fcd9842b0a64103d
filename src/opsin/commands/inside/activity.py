"""What units do over the training pictures."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.inside.layers import iter_batches
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, RunError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import Layer
from opsin.data.reference_set import ReferenceSet
from opsin.inspection.activity import (
    COLUMNS,
    Activity,
    ActivityRecord,
    UnitActivity,
    layers_with_units,
)
from opsin.inspection.network import Network
from opsin.runtime.classifier import Classifier

#: Pictures that are looked at: a unit that is active for one in 300 is found with 96%.
PICTURES: Final = 1000
# Raised when the figures mean something else than before, so that older files are made anew.
_FORMAT: Final = 1


def activity_of(
    classifier: Classifier,
    network: Network,
    known: Callable[[], ReferenceSet] | None,
    *,
    watcher: Watcher = SILENT,
) -> Activity | None:
    """Return what each unit does over 1,000 training pictures, from the run's file if it has one.

    The pictures are spread evenly over the training pictures, the same ones every time. The file
    ``inspection/activity.npz`` belongs to one classifier.onnx, by its SHA-256; where it is
    damaged or belongs to another, it is made anew. Nothing is written where the classifier lies in
    no run directory, where that cannot be written to, or of pictures that are not the run's.

    Args:
        classifier: An open classifier.
        network: Its network.
        known: Returns the pictures that it learnt from; asked only where there is no file.
        watcher: Is told how far the work is, and when the pictures are gone.

    Returns:
        The figures; ``None`` without pictures.
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
        pictures = known()
    except OpsinError as error:
        watcher.note(f"dead and saturated units are not marked: {error}")
        return None
    rows = _spread(pictures)
    if not len(rows):
        return None
    record, names = ActivityRecord(layers), [layer.name for layer in layers]
    done = 0
    watcher.begin("Units", len(rows), "pictures")
    for values in iter_batches(classifier, network, pictures.images, names, rows):
        record.add(values)
        done += len(values[names[0]])
        watcher.advance(done)
    watcher.end()
    activity = record.result()
    if in_run and pictures.own:
        # A run on a read-only disk can be looked at all the same.
        with contextlib.suppress(StorageError):
            directory.save_arrays(file, **_arrays(activity, digest))
    return activity


def _spread(known: ReferenceSet) -> NDArray[np.int64]:
    """Return rows of training pictures, or of any where there are none to train on."""
    rows = known.train if len(known.train) else np.arange(len(known.images))
    count = min(PICTURES, len(rows))
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)] if count else rows


def _arrays(activity: Activity, digest: str) -> dict[str, NDArray[np.generic]]:
    """Return the figures as few arrays: opening each of a hundred would take longer than all."""
    return {
        "format": np.array(_FORMAT),
        "classifier": np.array(digest),
        "pictures": np.array(activity.images),
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
        figures, images = arrays["figures"].astype(np.float64), int(arrays["pictures"])
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
            layer.name: UnitActivity(layer.kind, *part)
            for layer, part in zip(layers, parts, strict=True)
        },
    )
