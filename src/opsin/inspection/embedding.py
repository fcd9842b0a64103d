"""Training images by their embeddings: the nearest to an image, and those typical of a class."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Doubles, Floats, Ints, Pixels
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import Images, ReferenceSet
from opsin.inspection.plain_data import PlainData
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import SCALES
from opsin.runtime.classifier import Classifier

#: A run's file of the embeddings of its training images, and its most bytes.
FILE: Final = Path("inspection") / "embedding.npz"
MOST: Final = 250_000_000
# Keeps the directions of all-zero embeddings finite.
_NO_LENGTH: Final = 1e-12
# This many times the count are compared exactly, since the file holds half precision.
_FURTHER: Final = 3
#: Images of each kind in a class's portrait.
SHOWN: Final = 8


def directions(embedding: Floats, scales: Floats | None) -> Floats:
    """Embeddings ``[N, D]`` as directions: each unit over its deviation, each row of length 1.

    The product of two rows is the cosine that the file's ``ood_score`` is made from
    (A. Techapanurak et al., ACCV 2020). ``scales`` is ``None`` for files of an earlier version.
    """
    scaled = embedding if scales is None else embedding * scales
    scaled = np.nan_to_num(scaled.astype(np.float32), posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit_rows: Floats = scaled / np.maximum(lengths, _NO_LENGTH)
    return unit_rows


@dataclass(frozen=True)
class Neighbour(PlainData):
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
    classifier: Classifier, known: ReferenceSet, pixels: Pixels, *, count: int = 9,
    watcher: Watcher = SILENT,
) -> list[Neighbour]:  # fmt: skip
    """The training images whose embeddings are nearest to that of an image ``uint8[H, W, C]``."""
    content, train = classifier.content, known.train
    scales = OnnxGraph(content, classifier.metadata.layers).weights.get(SCALES)
    scales = None if scales is None else np.asarray(scales, np.float32)

    def direction_of(images: Pixels) -> Floats:
        return directions(classifier.layers(images, ["embedding"])["embedding"], scales)

    def computed() -> Iterator[NDArray[Any]]:
        watcher.begin("Embed", len(train), "images")
        done = 0
        for part in classifier.iter_layers(known.images, ["embedding"], train):
            yield directions(part["embedding"], scales)
            watcher.advance(done := done + len(part["embedding"]))
        watcher.end()

    if not len(train):
        return []
    wanted = direction_of(pixels[None])[0]
    batches: Iterable[NDArray[Any]] = computed()
    shape = (len(train), len(wanted))
    if known.own and 2 * shape[0] * shape[1] <= MOST:
        directory = RunDirectory(classifier.path.parent)
        kept: NDArray[Any] = np.zeros(0)
        key = hashlib.sha256(hashlib.sha256(content).digest() + train.tobytes()).hexdigest()
        with contextlib.suppress(RunError, KeyError):  # missing or damaged
            arrays = directory.load_arrays(directory.path / FILE)
            if str(arrays["key"]) == key:
                kept = arrays["directions"]
        if kept.shape != shape or kept.dtype != "<f2":
            kept = np.concatenate([batch.astype("<f2") for batch in batches])
            with contextlib.suppress(StorageError):  # a run on a read-only disk
                directory.save_arrays(directory.path / FILE, key=np.array(key), directions=kept)
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


@dataclass(frozen=True)
class PortraitImage(PlainData):
    """A representative image of its class."""

    JSON: ClassVar = "row name probability distance"
    row: int
    name: str
    probability: float
    distance: float
    images: Images = field(repr=False, compare=False)

    @property
    def pixels(self) -> Pixels:
        """The image, ``uint8[H, W, C]``, read on access."""
        return np.asarray(self.images[self.row])


@dataclass(frozen=True)
class Portrait(PlainData):
    """A class by its training images; empty without images."""

    JSON: ClassVar = "label images surest nearest farthest"
    label: str
    images: int = 0
    mean: Pixels | None = field(default=None, repr=False, compare=False)  # [H, W, C]
    surest: tuple[PortraitImage, ...] = ()
    nearest: tuple[PortraitImage, ...] = ()  # to the mean of the class's embeddings
    farthest: tuple[PortraitImage, ...] = ()


def portraits(
    classifier: Classifier, known: ReferenceSet, *, watcher: Watcher = SILENT
) -> list[Portrait]:
    """Find for each class its surest, its most and its least typical training images."""
    network, rows, result = OnnxGraph(classifier.content), known.rows_of("train"), []
    watcher.begin("Classes", len(rows), "images")
    done = 0
    for target, label in enumerate(classifier.classes):
        members = rows[known.labels[rows] == target]
        portrait = Portrait(label)
        if len(members):
            portrait = _portrait(label, network, known, members, target)
        result.append(portrait)
        watcher.advance(done := done + len(members))
    watcher.end()
    return result


def _portrait(
    label: str, network: OnnxGraph, known: ReferenceSet, rows: Ints, target: int
) -> Portrait:
    scales = network.weights.get(SCALES)
    total = np.zeros(known.images.shape[1:], np.int64)
    scores, embeddings = [], []
    for batch in network.stream(["probabilities", "embedding"], known.images, rows):
        total += batch.images.sum(axis=0, dtype=np.int64)
        scores.append(batch.values["probabilities"][:, target])
        scaled = batch.values["embedding"] * (1 if scales is None else scales)
        embeddings.append(np.asarray(scaled, np.float32))
    middle = np.sum([batch.sum(axis=0, dtype=np.float64) for batch in embeddings], axis=0)
    # Batch by batch: in double precision, all at once would take three times the memory.
    distance = np.concatenate([_distances(batch, middle) for batch in embeddings])
    score = np.concatenate(scores)
    surest = np.lexsort((rows, -score))
    typical = np.lexsort((rows, distance))

    def examples(order: Ints) -> tuple[PortraitImage, ...]:
        return tuple(
            PortraitImage(int(rows[k]), known.names[rows[k]], float(score[k]), float(distance[k]),
                          known.images)
            for k in order[:SHOWN]
        )  # fmt: skip

    mean = (total / len(rows)).round().astype(np.uint8)
    chosen = map(examples, (surest, typical, typical[::-1]))
    return Portrait(label, len(rows), mean, *chosen)


def _distances(embedding: Floats, middle: Doubles) -> Doubles:
    """1 less the cosine between each embedding ``[B, D]`` and another one, ``float64[B]``."""
    double = embedding.astype(np.float64)
    lengths = np.linalg.norm(double, axis=1) * np.linalg.norm(middle)
    cosine = np.divide(double @ middle, lengths, out=np.zeros(len(double)), where=lengths > 0)
    return np.asarray(1 - cosine)
