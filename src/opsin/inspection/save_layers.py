"""The raw numbers of layers, in a file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError, RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import Images
from opsin.data.spelling import check_choices
from opsin.inspection.layers import iter_batches
from opsin.inspection.npz import ArrayPlan, NpzWriter, open_npz
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier

# Names of images that are turned into an array at once.
_NAMES: Final = 4096


@dataclass(frozen=True)
class SavedLayers:
    """A file of layers' raw numbers: its name, size, images, and the shape of each array."""

    file: str
    bytes: int
    images: int
    layers: dict[str, list[int]]


def save_layers(
    classifier: Classifier,
    file: str | os.PathLike[str],
    names: Sequence[str],
    images: Images,
    *,
    image_names: Sequence[str],
    labels: NDArray[np.int64] | None = None,
    watcher: Watcher = SILENT,
) -> SavedLayers:
    """Write what layers put out for each image into a ``.npz`` file, which NumPy reads.

    The file has a row an image: ``names``, ``labels`` (places in ``classes``) where they are
    given, and ``float32[N, …]`` a layer, under the layer's name. Everything is read, computed and
    written batch by batch, so the memory does not grow with the images.

    Args:
        classifier: An open classifier.
        file: The file to write.
        names: Layers, or outputs of the file such as ``embedding``.
        images: Prepared images, ``uint8[N, H, W, C]``.
        image_names: What each is called.
        labels: Their classes, places among the classifier's, ``int64[N]``.
        watcher: Receives the progress of the work.

    Raises:
        ModelFileError: There is no such layer.
        RecipeError: No layer is named.
        SourceError: There is no image.
        StorageError: The disk is full or refuses a write. No part of the file is left behind.

    Example:
        >>> import tempfile, opsin
        >>> data = opsin.load("digits")
        >>> run = opsin.train(data, model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> written = save_layers(run.classifier(), run.path / "relu.npz", ["relu1"],
        ...                       data.images, image_names=data.names, labels=data.labels)
        >>> np.load(run.path / "relu.npz")["relu1"].shape
        (1797, 128)
    """
    network = OnnxGraph(classifier.content)
    wanted, count = _checked_names(network, names), len(images)
    if not count:
        raise SourceError("at least one image", "got none", "Name an image or a source.")
    batches = iter_batches(classifier, network, images, wanted)
    first = next(batches)  # its shapes say how large the file will be
    plans = {
        name: ArrayPlan((count, *values.shape[1:]), values.dtype) for name, values in first.items()
    }
    beside = _beside(classifier, count, image_names, labels)
    watcher.begin("Save", count, "images")
    with open_npz(Path(file), {name: plan for name, (plan, _) in beside.items()} | plans) as writer:
        for name, (_, blocks) in beside.items():
            for block in blocks:
                writer.write(name, block)
        _write_batches(writer, itertools.chain([first], batches), watcher)
        size = writer.nbytes
    watcher.end()
    shapes = {name: list(plan.shape) for name, plan in plans.items()}
    return SavedLayers(file=str(Path(file)), bytes=size, images=count, layers=shapes)


def _write_batches(
    writer: NpzWriter, batches: Iterable[dict[str, NDArray[Any]]], watcher: Watcher
) -> None:
    done = 0
    for batch in batches:
        for name, values in batch.items():
            writer.write(name, values)
        done += len(next(iter(batch.values())))
        watcher.advance(done)


def _checked_names(network: OnnxGraph, names: Sequence[str]) -> list[str]:
    """Return names of layers or of the file's outputs, each once."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        raise RecipeError("at least one layer to save", "got none", "Name one: --layer NAME.")
    # Files of earlier versions lack some of the outputs.
    outputs = [output.name for output in network.model.graph.output]
    layers = [layer.name for layer in network.layers]
    check_choices("layer", wanted, [*layers, *outputs], ModelFileError)
    return wanted


def _beside(
    classifier: Classifier,
    count: int,
    image_names: Sequence[str],
    labels: NDArray[np.int64] | None,
) -> dict[str, tuple[ArrayPlan, Iterable[NDArray[Any]]]]:
    """Return the arrays that stand beside the layers' values, each planned and in blocks."""
    text = np.dtype(f"<U{max((len(name) for name in image_names), default=0) or 1}")
    names = (
        np.array(image_names[at : at + _NAMES], text) for at in range(0, len(image_names), _NAMES)
    )
    beside: dict[str, tuple[ArrayPlan, Iterable[NDArray[Any]]]] = {
        "names": (ArrayPlan((count,), text), names)
    }
    if labels is not None:
        classes = np.array(classifier.classes)
        beside["labels"] = (ArrayPlan((count,), np.dtype(np.int64)), [labels])
        beside["classes"] = (ArrayPlan(classes.shape, classes.dtype), [classes])
    return beside
