"""Which training images stand for each class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.events import SILENT, Watcher
from opsin.core.stored_json import JsonObject
from opsin.data.lazy_images import Images
from opsin.data.reference_set import ReferenceSet
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import scales_of
from opsin.onnx_files.subnetwork import Subnetwork, batch_size
from opsin.runtime.classifier import Classifier

#: Images of each kind that stand for a class.
SHOWN: Final = 8


@dataclass(frozen=True)
class PortraitImage:
    """An image that stands for its class.

    ``distance`` is that of its embedding from the mean of its class: 1 less the cosine, 0 to 2. As
    for the file's ``ood_score``, each unit counts in its own deviations.
    """

    row: int
    name: str
    probability: float
    distance: float
    images: Images = field(repr=False, compare=False)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The image, ``uint8[H, W, C]``, read when it is asked for."""
        return np.asarray(self.images[self.row])

    def to_json(self) -> JsonObject:
        """Plain data, the pixels left out."""
        plain = ("row", "name", "probability", "distance")
        return {name: getattr(self, name) for name in plain}


@dataclass(frozen=True)
class Portrait:
    """A class, as its training images and the network show it; empty without images."""

    label: str
    images: int
    mean: NDArray[np.uint8] | None = field(repr=False, compare=False)  # [H, W, C]
    surest: tuple[PortraitImage, ...]  # of equal probability, the one whose logit leads by more
    nearest: tuple[PortraitImage, ...]  # to the mean of the class's embeddings
    farthest: tuple[PortraitImage, ...]

    def to_json(self) -> JsonObject:
        """Plain data, the pixels left out."""
        return {
            "label": self.label,
            "images": self.images,
            "surest": [example.to_json() for example in self.surest],
            "nearest": [example.to_json() for example in self.nearest],
            "farthest": [example.to_json() for example in self.farthest],
        }


def portraits(
    classifier: Classifier, known: ReferenceSet, *, watcher: Watcher = SILENT
) -> list[Portrait]:
    """Find for each class its surest, its most and its least typical training images.

    The images are read once, class by class; the memory holds the embeddings of one class.

    Raises:
        SourceError: There are no training images.
    """
    rows = known.rows_of("train")
    rows = rows[np.argsort(known.labels[rows], kind="stable")]
    network = OnnxGraph(classifier.content)
    logits, scales = network.layers[-1].name, scales_of(network.weights)
    part = Subnetwork(network.up_to(list(dict.fromkeys(("probabilities", logits, "embedding")))))
    found: list[Portrait] = []
    counter = ClassCounter(0)
    watcher.begin("Classes", len(rows), "images")
    done = 0
    for batch in part.stream(known.images, rows, batch_size(network.layers)):
        values = dict(zip(part.outputs, batch.values, strict=True))
        labels = known.labels[batch.rows]
        for label in np.unique(labels):
            while counter.label < label:
                found.append(_portrait(counter, classifier, known))
                counter = ClassCounter(counter.label + 1)
            own = labels == label
            counter.add(
                batch.rows[own],
                batch.images[own],
                values["probabilities"][own],
                values[logits][own],
                values["embedding"][own] * (1 if scales is None else scales),
            )
        watcher.advance(done := done + len(batch.rows))
    watcher.end()
    while len(found) < len(classifier.classes):
        found.append(_portrait(counter, classifier, known))
        counter = ClassCounter(counter.label + 1)
    return found


def _portrait(counter: ClassCounter, classifier: Classifier, known: ReferenceSet) -> Portrait:
    label, record = classifier.classes[counter.label], counter.record()
    if record is None:
        return Portrait(label, 0, None, (), (), ())

    def examples(places: NDArray[np.int64]) -> tuple[PortraitImage, ...]:
        return tuple(
            PortraitImage(
                row=int(record.rows[place]),
                name=known.names[record.rows[place]],
                probability=float(record.scores[place]),
                distance=float(record.distances[place]),
                images=known.images,
            )
            for place in places[:SHOWN]
        )

    chosen = (record.surest, record.nearest, record.nearest[::-1])
    return Portrait(label, len(record.rows), record.mean, *map(examples, chosen))


@dataclass(frozen=True)
class ClassRecord:
    """Figures of a class with N images.

    Distances are 1 less the cosine, since Euclidean ones would tell how long an embedding is: the
    surest images have the longest, and would be far from any mean.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]  # the probability of this class for each, [N]
    distances: NDArray[np.float64]
    surest: NDArray[np.int64]  # places in `rows`, the highest score first
    nearest: NDArray[np.int64]  # places in `rows`, the nearest to the mean first
    mean: NDArray[np.uint8]  # the mean image, [H, W, C]


class ClassCounter:
    """Makes a `ClassRecord` of images that come in batches; it keeps embeddings, not pixels."""

    def __init__(self, label: int) -> None:
        self.label = label
        self._batches: list[tuple[NDArray[Any], ...]] = []
        self._sum: NDArray[np.int64] | int = 0

    def add(
        self,
        rows: NDArray[np.int64],
        images: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
        logits: NDArray[Any],
        embedding: NDArray[np.float32],
    ) -> None:
        """Take B images of this class, with ``[B, K]``, ``[B, K]`` and ``[B, D]`` numbers."""
        scores, leads = probabilities[:, self.label], _lead(logits, self.label)
        self._batches.append((rows, scores, leads, embedding))
        self._sum = self._sum + images.sum(axis=0, dtype=np.int64)

    def record(self) -> ClassRecord | None:
        """The figures so far; ``None`` where no image has come."""
        if not self._batches:
            return None
        *columns, embeddings = zip(*self._batches, strict=True)
        rows, scores, leads = (np.concatenate(column) for column in columns)
        middle = np.sum([batch.sum(axis=0, dtype=np.float64) for batch in embeddings], axis=0)
        # Batch by batch: in double precision, all at once would take three times the memory.
        distances = np.concatenate([_angle(batch, middle) for batch in embeddings])
        return ClassRecord(
            rows=rows,
            scores=scores,
            distances=distances,
            surest=np.lexsort((rows, -leads, -scores)),
            nearest=np.lexsort((rows, distances)),
            mean=np.asarray(self._sum / len(rows)).round().astype(np.uint8),
        )


def _angle(embedding: NDArray[np.float32], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 less the cosine between each embedding and another one, ``float64[B]``."""
    double = embedding.astype(np.float64)
    lengths = np.linalg.norm(double, axis=1) * np.linalg.norm(middle)
    cosine = np.divide(double @ middle, lengths, out=np.zeros(len(double)), where=lengths > 0)
    return np.asarray(1 - cosine)


def _lead(logits: NDArray[Any], label: int) -> NDArray[np.float64]:
    """The lead of a class's logit over all others together, ``float64[B]``.

    It orders images as the probability does, and goes on where that is rounded to 1.
    """
    others = np.delete(logits.astype(np.float64), label, axis=1)
    top = np.maximum(others.max(axis=1), np.finfo(np.float64).min)
    rest = top + np.log(np.exp(others - top[:, None]).sum(axis=1).clip(1e-300))
    lead: NDArray[np.float64] = logits[:, label] - rest
    return lead
