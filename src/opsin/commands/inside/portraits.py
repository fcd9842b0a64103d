"""The training pictures that stand for each class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.lazy_images import Images
from opsin.data.reference_set import ReferenceSet
from opsin.runtime.classifier import Classifier

if TYPE_CHECKING:
    from opsin.inspection.portraits import ClassCounter

#: Pictures of each kind that stand for a class.
SHOWN: Final = 8


@dataclass(frozen=True)
class Example:
    """A picture that stands for its class.

    Args:
        row: Its number among the pictures.
        name: What it is called.
        probability: Of its class, 0 to 1.
        distance: Of its embedding from the mean of its class: 1 less the cosine, 0 to 2. As for
            the file's ``familiarity``, each unit counts in its own deviations.
        images: The pictures, which are read when they are asked for.
    """

    row: int
    name: str
    probability: float
    distance: float
    images: Images = field(repr=False, compare=False)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The picture, ``uint8[H, W, C]``."""
        return np.asarray(self.images[self.row])

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, the pixels left out."""
        plain = ("row", "name", "probability", "distance")
        return {name: getattr(self, name) for name in plain}


@dataclass(frozen=True)
class Portrait:
    """A class, as its training pictures and the network show it.

    Args:
        label: The class.
        images: How many training pictures it has; without any the rest is empty.
        mean: Their mean, ``uint8[H, W, C]``.
        surest: Those with the highest probability of the class; where it is equal, those whose
            logit leads the others' by more.
        nearest: Those whose embedding is nearest to the mean of the class's embeddings.
        farthest: Those whose embedding is farthest from it.
    """

    label: str
    images: int
    mean: NDArray[np.uint8] | None = field(repr=False, compare=False)
    surest: tuple[Example, ...]
    nearest: tuple[Example, ...]
    farthest: tuple[Example, ...]

    def to_json(self) -> dict[str, Any]:
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
    """Find for each class its surest, its most and its least typical training pictures.

    The pictures are read once, class by class; the memory holds the embeddings of one class.

    Args:
        classifier: An open classifier.
        known: The pictures.
        watcher: Is told how far the work is.

    Raises:
        SourceError: There are no training pictures.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> zero = opsin.Inspection(run).portraits()[0]
        >>> zero.label, len(zero.surest), zero.mean.shape
        ('0', 8, (8, 8, 1))
    """
    from opsin.inspection.network import Network  # noqa: PLC0415
    from opsin.inspection.part import Part, batch_size, up_to  # noqa: PLC0415
    from opsin.inspection.portraits import ClassCounter  # noqa: PLC0415
    from opsin.onnx_files.postprocessing import SCALES  # noqa: PLC0415

    labels = known.labels[known.train]
    rows = known.train[np.lexsort((known.train, labels))]
    if not len(rows):
        raise SourceError(
            "training pictures", f"{known.source} has none", "Give other pictures: --data SOURCE."
        )
    network = Network(classifier.content, classifier.metadata.layers)
    logits, scales = network.layers[-1].name, network.weights.get(SCALES, np.float32(1))
    part = Part(up_to(network, list(dict.fromkeys(("probabilities", logits, "embedding")))))
    told: list[Portrait] = []
    open_one = ClassCounter(0)
    watcher.begin("Classes", len(rows), "pictures")
    done = 0
    for batch in part.stream(known.images, rows, batch_size(network)):
        values = dict(zip(part.outputs, batch.values, strict=True))
        of = known.labels[batch.rows]
        for label in np.unique(of):
            while open_one.label < label:
                told.append(_portrait(open_one, classifier, known))
                open_one = ClassCounter(open_one.label + 1)
            some = of == label
            open_one.add(
                batch.rows[some],
                batch.images[some],
                values["probabilities"][some],
                values[logits][some],
                values["embedding"][some] * scales,
            )
        watcher.advance(done := done + len(batch.rows))
    watcher.end()
    while len(told) < len(classifier.classes):
        told.append(_portrait(open_one, classifier, known))
        open_one = ClassCounter(open_one.label + 1)
    return told


def _portrait(counter: ClassCounter, classifier: Classifier, known: ReferenceSet) -> Portrait:
    label, record = classifier.classes[counter.label], counter.record()
    if record is None:
        return Portrait(label, 0, None, (), (), ())

    def examples(places: NDArray[np.int64]) -> tuple[Example, ...]:
        return tuple(
            Example(
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
