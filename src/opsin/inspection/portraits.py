"""Representative training images of each class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from opsin.core.arrays import Doubles, Floats, Ints, Pixels
from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import Images, ReferenceSet
from opsin.inspection.plain_data import PlainData
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import SCALES
from opsin.runtime.classifier import Classifier

#: Images of each kind for a class.
SHOWN: Final = 8


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
        """The image, ``uint8[H, W, C]``, read when it is asked for."""
        return np.asarray(self.images[self.row])


@dataclass(frozen=True)
class Portrait(PlainData):
    """A class by its training images; empty without images."""

    JSON: ClassVar = "label images surest nearest farthest"
    label: str
    images: int
    mean: Pixels | None = field(repr=False, compare=False)  # [H, W, C]
    surest: tuple[PortraitImage, ...]
    nearest: tuple[PortraitImage, ...]  # to the mean of the class's embeddings
    farthest: tuple[PortraitImage, ...]


def portraits(
    classifier: Classifier, known: ReferenceSet, *, watcher: Watcher = SILENT
) -> list[Portrait]:
    """Find for each class its surest, its most and its least typical training images."""
    rows, result = known.rows_of("train"), []
    watcher.begin("Classes", len(rows), "images")
    done = 0
    for target, label in enumerate(classifier.classes):
        members = rows[known.labels[rows] == target]
        if not len(members):
            result.append(Portrait(label, 0, None, (), (), ()))
            continue
        result.append(_portrait(classifier, known, members, target, watcher=watcher, done=done))
        done += len(members)
    watcher.end()
    return result


def _portrait(
    classifier: Classifier, known: ReferenceSet, rows: Ints, target: int, *, watcher: Watcher,
    done: int,
) -> Portrait:  # fmt: skip
    network = OnnxGraph(classifier.content)
    scales = network.weights.get(SCALES)
    total = np.zeros(known.images.shape[1:], np.int64)
    scores, embeddings = [], []
    for batch in network.stream(["probabilities", "embedding"], known.images, rows):
        total += batch.images.sum(axis=0, dtype=np.int64)
        scores.append(batch.values["probabilities"][:, target])
        scaled = batch.values["embedding"] * (1 if scales is None else scales)
        embeddings.append(np.asarray(scaled, np.float32))
        watcher.advance(done := done + len(batch.rows))
    middle = np.sum([batch.sum(axis=0, dtype=np.float64) for batch in embeddings], axis=0)
    # Batch by batch: in double precision, all at once would take three times the memory.
    distance = np.concatenate([angles(batch, middle) for batch in embeddings])
    score = np.concatenate(scores)
    surest = np.lexsort((rows, -score))
    nearest = np.lexsort((rows, distance))

    def examples(order: Ints) -> tuple[PortraitImage, ...]:
        return tuple(
            PortraitImage(int(rows[k]), known.names[rows[k]], float(score[k]), float(distance[k]),
                          known.images)
            for k in order[:SHOWN]
        )  # fmt: skip

    mean = (total / len(rows)).round().astype(np.uint8)
    chosen = map(examples, (surest, nearest, nearest[::-1]))
    return Portrait(classifier.classes[target], len(rows), mean, *chosen)


def angles(embedding: Floats, middle: Doubles) -> Doubles:
    """1 less the cosine between each embedding ``[B, D]`` and another one, ``float64[B]``."""
    double = embedding.astype(np.float64)
    lengths = np.linalg.norm(double, axis=1) * np.linalg.norm(middle)
    cosine = np.divide(double @ middle, lengths, out=np.zeros(len(double)), where=lengths > 0)
    return np.asarray(1 - cosine)
