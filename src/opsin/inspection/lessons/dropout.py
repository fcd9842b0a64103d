"""What setting values to 0 at random does to the answer."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import LayerOp
from opsin.core.stored_json import JsonObject
from opsin.inspection.lessons.lesson_layers import LessonLayer, fetch, plain
from opsin.inspection.lessons.lesson_terms import Term
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.subnetwork import Subnetwork
from opsin.runtime.classifier import Classifier

#: How often the image is answered with dropout on.
ANSWERS: Final = 20
# The share that is dropped where the file does not say it.
_USUAL: Final = 0.5
# Values whose fate in the first answer is shown.
_SHOWN: Final = 8


@dataclass(frozen=True)
class DropoutLesson:
    """What dropout does to the answers to one image.

    Args:
        layer: Name of the layer.
        kind: What it is.
        rate: Share of the values that is set to 0; the others are divided by 1 less it.
        assumed: Whether the file does not say the rate, and it is a usual one.
        added: Whether the network has no dropout, and it is put in front of its last layer.
        classes: Names of the classes.
        values: What dropout acts on, ``float32[V, …]``: mostly of one image, V=1, but networks
            that see several views of it have all of them.
        kept: Which values each answer keeps, ``bool[20, V, …]``.
        off: The probabilities without dropout, as the classifier answers, ``float32[K]``.
        on: Those with it, ``float32[20, K]``.
    """

    term: ClassVar[Term] = "dropout"
    layer: str
    kind: str
    rate: float
    assumed: bool
    added: bool
    classes: tuple[str, ...]
    values: NDArray[np.float32] = field(repr=False)
    kept: NDArray[np.bool_] = field(repr=False)
    off: NDArray[np.float32] = field(repr=False)
    on: NDArray[np.float32] = field(repr=False)

    @property
    def label(self) -> str:
        """The answer without dropout."""
        return self.classes[int(self.off.argmax())]

    @property
    def answers(self) -> list[tuple[str, float]]:
        """The label and the probability of each answer with dropout."""
        return [(self.classes[int(row.argmax())], float(row.max())) for row in self.on]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """How often each label is the answer with dropout, the most frequent first."""
        return Counter(label for label, _ in self.answers).most_common()

    @property
    def in_its_favour(self) -> NDArray[np.float32]:
        """The probability, in each answer, of what the answer is without dropout, ``[20]``."""
        return np.asarray(self.on[:, int(self.off.argmax())])

    def examples(self, count: int = _SHOWN) -> list[tuple[int, float, float]]:
        """Return values and what the first answer makes of them: place, before, after.

        Args:
            count: How many; those at even distances among the values that are not 0.
        """
        flat, kept = self.values.ravel(), self.kept[0].ravel()
        active = np.flatnonzero(flat)
        chosen = active[np.linspace(0, len(active) - 1, min(count, len(active))).astype(np.int64)]
        scaled = np.where(kept, flat / (1 - self.rate), 0)
        return [(int(place), float(flat[place]), float(scaled[place])) for place in chosen]

    def to_json(self) -> JsonObject:
        """Return it as plain data, the values themselves left out."""
        return {
            "term": self.term,
            "layer": self.layer,
            "kind": self.kind,
            "rate": self.rate,
            "assumed": self.assumed,
            "added": self.added,
            "values": self.values.size,
            "off": dict(zip(self.classes, plain(self.off), strict=True)),
            "on": [
                {
                    "label": label,
                    "confidence": plain(np.asarray(confidence)),
                    "dropped": int(kept.size - np.count_nonzero(kept)),
                    "probabilities": dict(zip(self.classes, plain(row), strict=True)),
                }
                for (label, confidence), kept, row in zip(
                    self.answers, self.kept, self.on, strict=True
                )
            ],
            "examples": [
                {"place": place, "before": plain(np.asarray(b)), "after": plain(np.asarray(a))}
                for place, b, a in self.examples()
            ],
        }


def dropout_lesson(
    classifier: Classifier,
    network: OnnxGraph,
    found: LessonLayer,
    pixels: NDArray[np.uint8],
    *,
    seed: int = 0,
) -> DropoutLesson:
    """Return what dropout does to the answers to an image, by the file alone.

    Its layer passes everything on once the training is over; so the values are set to 0 where it
    stands, and the rest of the network answers (N. Srivastava et al., "Dropout: a simple way to
    prevent neural networks from overfitting", JMLR 2014). Other dropout layers stay off.

    Args:
        classifier: An open classifier.
        network: Its network.
        found: The layer.
        pixels: A prepared image, ``uint8[H, W, C]``.
        seed: Decides what is dropped.

    Raises:
        ModelFileError: A value is infinite or no number.
    """
    content, inputs = network.after(found.value)
    values = fetch(network, pixels, inputs, whole=True)
    acted_on = values[found.value]
    rate = _rate(found.kind)
    random = np.random.default_rng(seed)
    # Dropout of whole maps, as PyTorch and Keras call it, decides once for all places of a map.
    once = re.match(r"(Spatial)?Dropout2d", found.kind, re.IGNORECASE) and acted_on.ndim == 4
    drawn = (*acted_on.shape[:2], 1, 1) if once else acted_on.shape
    used = _USUAL if rate is None else rate
    kept = np.stack(
        [np.broadcast_to(random.random(drawn) >= used, acted_on.shape) for _ in range(ANSWERS)]
    )
    rest = Subnetwork(content)

    def answer(changed: NDArray[np.float32]) -> NDArray[np.float32]:
        (probabilities,) = rest.run({**values, found.value: changed})
        return np.asarray(probabilities[0])

    factor = np.float32(1 / (1 - used))
    return DropoutLesson(
        layer=found.name,
        kind=found.kind,
        rate=used,
        assumed=rate is None,
        added=LayerOp.of(found.kind) is not LayerOp.DROPOUT,
        classes=classifier.classes,
        values=acted_on,
        kept=kept,
        off=answer(acted_on),
        on=np.stack([answer(np.where(each, acted_on * factor, 0)) for each in kept]),
    )


def _rate(kind: str) -> float | None:
    """Return the rate that a layer's kind names, such as ``Dropout 0.5``, if it does."""
    number = re.fullmatch(r"\S*Dropout\S* (0(?:\.\d+)?)", kind)
    return float(number[1]) if number else None
