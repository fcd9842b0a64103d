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
from opsin.onnx_files.postprocessing import SCALES
from opsin.onnx_files.subnetwork import Subnetwork, batch_size
from opsin.runtime.classifier import Classifier

#: Images of each kind that stand for a class.
SHOWN: Final = 8


@dataclass(frozen=True)
class PortraitImage:
    """An image that stands for its class.

    Args:
        row: Its number among the images.
        name: What it is called.
        probability: Of its class, 0 to 1.
        distance: Of its embedding from the mean of its class: 1 less the cosine, 0 to 2. As for
            the file's ``ood_score``, each unit counts in its own deviations.
        images: The images, which are read when they are asked for.
    """

    row: int
    name: str
    probability: float
    distance: float
    images: Images = field(repr=False, compare=False)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The image, ``uint8[H, W, C]``."""
        return np.asarray(self.images[self.row])

    def to_json(self) -> JsonObject:
        """Return it as plain data, the pixels left out."""
        plain = ("row", "name", "probability", "distance")
        return {name: getattr(self, name) for name in plain}


@dataclass(frozen=True)
class Portrait:
    """A class, as its training images and the network show it.

    Args:
        label: The class.
        images: How many training images it has; without any the rest is empty.
        mean: Their mean, ``uint8[H, W, C]``.
        surest: Those with the highest probability of the class; where it is equal, those whose
            logit leads the others' by more.
        nearest: Those whose embedding is nearest to the mean of the class's embeddings.
        farthest: Those whose embedding is farthest from it.
    """

    label: str
    images: int
    mean: NDArray[np.uint8] | None = field(repr=False, compare=False)
    surest: tuple[PortraitImage, ...]
    nearest: tuple[PortraitImage, ...]
    farthest: tuple[PortraitImage, ...]

    def to_json(self) -> JsonObject:
        """Return it as plain data, the pixels left out."""
        return {
            "label": self.label,
            "images": self.images,
            **{
                kind: [example.to_json() for example in getattr(self, kind)]
                for kind in ("surest", "nearest", "farthest")
            },
        }


def portraits(
    classifier: Classifier, known: ReferenceSet, *, watcher: Watcher = SILENT
) -> list[Portrait]:
    """Find for each class its surest, its most and its least typical training images.

    The images are read once, class by class; the memory holds the embeddings of one class.

    Args:
        classifier: An open classifier.
        known: The images.
        watcher: Receives the progress of the work.

    Raises:
        SourceError: There are no training images.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> zero = opsin.Inspection(run).portraits()[0]
        >>> zero.label, len(zero.surest), zero.mean.shape
        ('0', 8, (8, 8, 1))
    """
    rows = known.rows_of("train")
    rows = rows[np.argsort(known.labels[rows], kind="stable")]
    network = OnnxGraph(classifier.content)
    logits, scales = network.layers[-1].name, network.weights.get(SCALES)
    part = Subnetwork(network.up_to(list(dict.fromkeys(("probabilities", logits, "embedding")))))
    found: list[Portrait] = []
    open_one = ClassCounter(0)
    watcher.begin("Classes", len(rows), "images")
    done = 0
    for batch in part.stream(known.images, rows, batch_size(network.layers)):
        values = dict(zip(part.outputs, batch.values, strict=True))
        of = known.labels[batch.rows]
        for label in np.unique(of):
            while open_one.label < label:
                found.append(_portrait(open_one, classifier, known))
                open_one = ClassCounter(open_one.label + 1)
            some = of == label
            open_one.add(
                batch.rows[some],
                batch.images[some],
                values["probabilities"][some],
                values[logits][some],
                values["embedding"][some] * (1 if scales is None else scales),
            )
        watcher.advance(done := done + len(batch.rows))
    watcher.end()
    while len(found) < len(classifier.classes):
        found.append(_portrait(open_one, classifier, known))
        open_one = ClassCounter(open_one.label + 1)
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

    return Portrait(
        label,
        len(record.rows),
        record.mean,
        surest=examples(record.surest),
        nearest=examples(record.nearest),
        farthest=examples(record.nearest[::-1]),
    )


@dataclass(frozen=True)
class ClassRecord:
    """What is known of a class with N images.

    Args:
        rows: The images' numbers, ``int64[N]``.
        scores: The probability of this class for each, ``float32[N]``.
        distances: Of each embedding from the class's mean: 1 less the cosine of the angle
            between them, 0 to 2, ``float64[N]``. Euclidean distances would tell how long an
            embedding is: the surest images have the longest, and would be far from any mean.
        surest: Places in ``rows``, the highest score first.
        nearest: Places, the nearest to the mean first.
        mean: The mean image, ``uint8[H, W, C]``.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    distances: NDArray[np.float64]
    surest: NDArray[np.int64]
    nearest: NDArray[np.int64]
    mean: NDArray[np.uint8]


@dataclass
class ClassCounter:
    """Takes the images of one class batch by batch; it keeps their embeddings, not their pixels.

    Args:
        label: Place of the class among the outputs.

    Example:
        >>> counter = ClassCounter(0)
        >>> images = np.zeros((2, 1, 1, 1), np.uint8) + np.uint8([10, 20])[:, None, None, None]
        >>> shares = np.float32([[0.9, 0.1], [0.9, 0.1]])
        >>> logits = np.float32([[3, 1], [9, 7.5]])
        >>> counter.add(np.array([4, 5]), images, shares, logits, np.float32([[0], [2]]))
        >>> record = counter.record()
        >>> record.rows[record.surest].tolist(), record.mean.item()
        ([4, 5], 15)
    """

    label: int
    _rows: list[NDArray[np.int64]] = field(default_factory=list)
    _scores: list[NDArray[np.float32]] = field(default_factory=list)
    _leads: list[NDArray[np.float64]] = field(default_factory=list)
    _embeddings: list[NDArray[np.float32]] = field(default_factory=list)
    _sum: NDArray[np.int64] | None = None

    def add(
        self,
        rows: NDArray[np.int64],
        images: NDArray[np.uint8],
        probabilities: NDArray[np.float32],
        logits: NDArray[Any],
        embedding: NDArray[np.float32],
    ) -> None:
        """Take some images of this class.

        Args:
            rows: Their numbers, ``int64[B]``.
            images: ``uint8[B, H, W, C]``
            probabilities: ``float32[B, K]``
            logits: What the last layer says, ``float32[B, K]``.
            embedding: ``float32[B, D]``
        """
        self._rows.append(rows)
        self._scores.append(probabilities[:, self.label])
        self._leads.append(_lead(logits, self.label))
        self._embeddings.append(embedding)
        total = images.sum(axis=0, dtype=np.int64)
        self._sum = total if self._sum is None else self._sum + total

    def record(self) -> ClassRecord | None:
        """Return what is known, or ``None`` where no image has come."""
        if self._sum is None:
            return None
        rows, scores = np.concatenate(self._rows), np.concatenate(self._scores)
        middle = np.sum([b.sum(axis=0, dtype=np.float64) for b in self._embeddings], axis=0)
        # Batch by batch: in double precision, all at once would take three times the memory.
        distances = np.concatenate([_angle(batch, middle) for batch in self._embeddings])
        return ClassRecord(
            rows=rows,
            scores=scores,
            distances=distances,
            surest=np.lexsort((rows, -np.concatenate(self._leads), -scores)),
            nearest=np.lexsort((rows, distances)),
            mean=(self._sum / len(rows)).round().astype(np.uint8),
        )


def _angle(embedding: NDArray[np.float32], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 less the cosine between each embedding and another one, ``float64[B]``."""
    double = embedding.astype(np.float64)
    lengths = np.linalg.norm(double, axis=1) * np.linalg.norm(middle)
    cosine = np.divide(double @ middle, lengths, out=np.zeros(len(double)), where=lengths > 0)
    return np.asarray(1 - cosine)


def _lead(logits: NDArray[Any], label: int) -> NDArray[np.float64]:
    """Return the lead of a class's logit over all others together, ``float64[B]``.

    It orders images as the probability does, and goes on where that is rounded to 1.
    """
    others = np.delete(logits.astype(np.float64), label, axis=1)
    top = np.maximum(others.max(axis=1), np.finfo(np.float64).min)
    rest = top + np.log(np.exp(others - top[:, None]).sum(axis=1).clip(1e-300))
    lead: NDArray[np.float64] = logits[:, label] - rest
    return lead
