"""Nearest training images in the network's embedding."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Floats, Ints, Pixels
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError, StorageError
from opsin.core.events import SILENT, Watcher, watched
from opsin.data.lazy_images import ReferenceSet
from opsin.evaluation.out_of_distribution import unit_rows
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import SCALES
from opsin.runtime.classifier import Classifier

#: A run's file of the embeddings of its training images, and its most bytes.
FILE: Final = Path("inspection") / "embedding.npz"
MOST: Final = 250_000_000
_AT_ONCE: Final = 4096  # images whose directions are computed at once
# This many times the count are compared exactly, since the file holds half precision.
_FURTHER: Final = 3


def directions(embedding: Floats, scales: Floats | None) -> Floats:
    """Embeddings ``[N, D]`` as directions: each unit over its deviation, each row of length 1.

    The product of two rows is the cosine that the file's ``ood_score`` is made from
    (A. Techapanurak et al., ACCV 2020). ``scales`` is ``None`` for files of an earlier version.
    """
    scaled = embedding if scales is None else embedding * scales
    return unit_rows(np.nan_to_num(scaled.astype(np.float32), posinf=0.0, neginf=0.0))


def keep_embeddings(
    directory: RunDirectory, content: bytes, train: Ints, embeddings: Floats
) -> None:
    """Keep training images' embeddings, where all images' are at hand, for `nearest` to find."""
    units = embeddings.shape[1]
    if 2 * len(train) * units <= MOST:
        scales, found = _scales_of(content), np.empty((len(train), units), "<f2")
        for start in range(0, len(train), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            found[part] = directions(embeddings[train[part]], scales)
        _keep(directory, content, train, found)


def _keep(directory: RunDirectory, content: bytes, train: Ints, found: NDArray[Any]) -> None:
    key = np.array(_key(content, train))
    with contextlib.suppress(StorageError):  # a run on a read-only disk
        directory.save_arrays(directory.path / FILE, key=key, directions=found)


def _key(content: bytes, train: Ints) -> str:
    return hashlib.sha256(hashlib.sha256(content).digest() + train.tobytes()).hexdigest()


def _scales_of(content: bytes) -> Floats | None:
    scales = OnnxGraph(content).weights.get(SCALES)
    return None if scales is None else np.asarray(scales, np.float32)


@dataclass(frozen=True)
class Neighbour:
    """A training image, with the cosine of its embedding to that of the other image."""

    JSON: ClassVar = "row name class=class_name similarity same"
    row: int
    name: str
    label: int
    class_name: str
    similarity: float
    same: bool  # it is the very same image
    pixels: Pixels


def nearest(
    classifier: Classifier,
    known: ReferenceSet,
    pixels: Pixels,
    *,
    count: int = 9,
    watcher: Watcher = SILENT,
) -> list[Neighbour]:
    """The training images whose embeddings are nearest to that of an image ``uint8[H, W, C]``."""
    content, train = classifier.content, known.train
    scales = _scales_of(content)

    def direction_of(images: Pixels) -> Floats:
        return directions(classifier.layers(images, ["embedding"])["embedding"], scales)

    def computed() -> Iterator[NDArray[Any]]:
        parts = classifier.iter_layers(known.images, ["embedding"], train)
        found = (directions(part["embedding"], scales) for part in parts)
        yield from watched(watcher, "Embed", len(train), found, size=len)

    if not len(train):
        return []
    wanted = direction_of(pixels[None])[0]
    batches: Iterable[NDArray[Any]] = computed()
    shape = (len(train), len(wanted))
    if known.own and 2 * shape[0] * shape[1] <= MOST:
        directory = RunDirectory(classifier.path.parent)
        kept: NDArray[Any] = np.zeros(0)
        with contextlib.suppress(RunError, KeyError):  # missing or damaged
            arrays = directory.load_arrays(directory.path / FILE)
            if str(arrays["key"]) == _key(content, train):
                kept = arrays["directions"]
        if kept.shape != shape or kept.dtype != "<f2":
            kept = np.concatenate([batch.astype("<f2") for batch in batches])
            _keep(directory, content, train, kept)
        batches = [kept]
    cosines = np.concatenate([batch.astype(np.float32) @ wanted for batch in batches])
    rows = train[np.argsort(-cosines, kind="stable")[: count * _FURTHER]]
    candidates = known.images[rows]
    exact = direction_of(candidates) @ wanted
    neighbours = []
    for index in np.lexsort((rows, -exact))[:count]:
        row, image = int(rows[index]), candidates[index]
        label, similarity = int(known.labels[row]), min(1.0, float(exact[index]))
        same = bool(np.array_equal(image, pixels))
        name, class_name = known.names[row], classifier.classes[label]
        neighbours.append(Neighbour(row, name, label, class_name, similarity, same, image))
    return neighbours
