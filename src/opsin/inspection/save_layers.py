"""The raw numbers of layers, in a file."""

from __future__ import annotations

import itertools
import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Ints
from opsin.core.errors import ModelFileError, RecipeError, SourceError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import file_size
from opsin.core.storage import atomic_file, scratch_directory, storage_errors
from opsin.data.lazy_images import Images
from opsin.data.spelling import check_choices
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier


@dataclass(frozen=True)
class SavedLayers:
    """A file of layers' raw numbers: its name, size, images, and the shape of each array."""

    file: str
    bytes: int
    images: int
    layers: dict[str, list[int]]


def save_layers(
    classifier: Classifier, file: str | os.PathLike[str], names: Sequence[str], images: Images, *,
    image_names: Sequence[str], labels: Ints | None = None, watcher: Watcher = SILENT,
) -> SavedLayers:  # fmt: skip
    """Write the outputs of layers for each image into a ``.npz`` file."""
    network, wanted, count = OnnxGraph(classifier.content), list(dict.fromkeys(names)), len(images)
    if not wanted:
        raise RecipeError("There is no layer to save", "Name one: --layer NAME.")
    # Files of earlier versions lack some of the outputs.
    outputs = [output.name for output in network.model.graph.output]
    layers = [layer.name for layer in network.layers]
    check_choices("layer", wanted, [*layers, *outputs], ModelFileError)
    if not count:
        raise SourceError("There are no images to save layers of", "Name an image or a source.")
    path = Path(file)
    arrays: dict[str, Any] = {"names": np.array(image_names, np.str_)}
    if labels is not None:
        arrays |= {"labels": labels, "classes": np.array(classifier.classes)}
    batches = (batch.values for batch in network.stream(wanted, images))
    first = next(batches)  # its shapes say how large the file will be
    watcher.begin("Save", count, "images")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory(path.parent) as folder, storage_errors(path):
        sizes = [count * values.nbytes // len(values) for values in first.values()]
        needed, free = sum(sizes) + max(sizes), shutil.disk_usage(path.parent).free
        if needed > free:
            raise StorageError(
                f"{path} needs {file_size(needed)} of free disk space; there are {file_size(free)}",
                "Choose fewer layers or images, or a place on another disk.",
            )
        _write_rows(folder, itertools.chain([first], batches), count, watcher)
        with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
            for number, name in enumerate(first):
                part = folder / f"{number}.npy"
                entry = archive.open(f"{name}.npy", "w", force_zip64=True)
                with entry as stream, part.open("rb") as rows:
                    shutil.copyfileobj(rows, stream, 1 << 20)
                part.unlink()  # so that only one array lies on the disk twice
    watcher.end()
    shapes = {name: [count, *first[name].shape[1:]] for name in first}
    size = path.stat().st_size
    return SavedLayers(file=str(path), bytes=size, images=count, layers=shapes)


def _write_rows(
    folder: Path, batches: Iterator[dict[str, NDArray[Any]]], count: int, watcher: Watcher
) -> None:
    """Write each layer's rows into a ``.npy`` file named by the layer's number."""
    done = 0
    with ExitStack() as stack:
        streams: list[BinaryIO] = []
        for batch in batches:
            for number, values in enumerate(batch.values()):
                if not done:
                    streams.append(stack.enter_context((folder / f"{number}.npy").open("wb")))
                    header = {
                        "descr": np.lib.format.dtype_to_descr(values.dtype),
                        "fortran_order": False, "shape": (count, *values.shape[1:]),
                    }  # fmt: skip
                    np.lib.format.write_array_header_1_0(streams[-1], header)
                streams[number].write(np.ascontiguousarray(values).data)
            done += len(values)
            watcher.advance(done)
