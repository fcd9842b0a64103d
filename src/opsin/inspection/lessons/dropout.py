"""What setting values to 0 at random does to the answer."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from opsin.core.arrays import Bools, Floats, Pixels
from opsin.core.metadata import LayerOp
from opsin.inspection.lessons.lesson_layers import Lesson, LessonLayer, fetch
from opsin.inspection.lessons.lesson_terms import Term
from opsin.onnx_files.onnx_graph import OnnxGraph, Subnetwork

#: How often the image is answered with dropout on.
ANSWERS: Final = 20
# The share that is dropped where the file does not say it.
_USUAL: Final = 0.5


@dataclass(frozen=True)
class DropoutLesson(Lesson):
    """What dropout does to the answers to one image, K classes."""

    term: ClassVar[Term] = "dropout"
    JSON: ClassVar = (
        "term layer kind rate assumed added values=values.size off=_off on=_on examples=_examples"
    )
    layer: str
    kind: str
    rate: float
    assumed: bool  # the file does not say the rate
    added: bool  # the network has no dropout: it is put in front of its last layer
    classes: tuple[str, ...]
    # What dropout acts on, [V, …]: mostly V=1, but some networks see several views of one image.
    values: Floats = field(repr=False)
    kept: Bools = field(repr=False)  # [20, V, …]
    off: Floats = field(repr=False)  # the probabilities without dropout, [K]
    on: Floats = field(repr=False)  # those with it, [20, K]

    @classmethod
    def of(
        cls,
        network: OnnxGraph,
        found: LessonLayer,
        pixels: Pixels,
        classes: tuple[str, ...],
        *,
        seed: int = 0,
    ) -> DropoutLesson:
        """The lesson about one image, by the file alone.

        Once training is over, dropout passes everything on; so values are set to 0 where it
        stands, and the rest of the network answers (N. Srivastava et al., "Dropout: a simple way to
        prevent neural networks from overfitting", JMLR 2014). Other dropout layers stay off.
        """
        content, inputs = network.after(found.value)
        values = fetch(network, pixels, inputs, whole=True)
        acted_on = values[found.value]
        stated = re.fullmatch(r"\S*Dropout\S* (0(?:\.\d+)?)", found.kind)
        rate = float(stated[1]) if stated else _USUAL
        random = np.random.default_rng(seed)
        # Dropout of whole maps, as PyTorch and Keras call it, decides once for all places of a map.
        by_map = re.match(r"(Spatial)?Dropout2d", found.kind, re.IGNORECASE) and acted_on.ndim == 4
        drawn = (*acted_on.shape[:2], 1, 1) if by_map else acted_on.shape
        kept = np.stack(
            [np.broadcast_to(random.random(drawn) >= rate, acted_on.shape) for _ in range(ANSWERS)]
        )
        rest = Subnetwork(content)

        def answer(changed: Floats) -> Floats:
            (probabilities,) = rest.run({**values, found.value: changed})
            return np.asarray(probabilities[0])

        factor = np.float32(1 / (1 - rate))
        return cls(
            layer=found.name,
            kind=found.kind,
            rate=rate,
            assumed=stated is None,
            added=LayerOp.of(found.kind) is not LayerOp.DROPOUT,
            classes=classes,
            values=acted_on,
            kept=kept,
            off=answer(acted_on),
            on=np.stack([answer(np.where(each, acted_on * factor, 0)) for each in kept]),
        )

    @property
    def label(self) -> str:
        """The answer without dropout."""
        return self.classes[int(self.off.argmax())]

    @property
    def answers(self) -> list[tuple[str, float, int]]:
        """Label and confidence of each answer with dropout, and how many values were dropped."""
        return [
            (self.classes[int(row.argmax())], float(row.max()), int(kept.size - kept.sum()))
            for row, kept in zip(self.on, self.kept, strict=True)
        ]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """How often each label is the answer with dropout, the most frequent first."""
        return Counter(label for label, *_ in self.answers).most_common()

    @property
    def in_its_favour(self) -> Floats:
        """The probability, in each answer, of what the answer is without dropout, ``[20]``."""
        return np.asarray(self.on[:, int(self.off.argmax())])

    def examples(self, count: int = 8) -> list[tuple[int, float, float]]:
        """Some values that are not 0 and what the first answer makes of them: place, off, on."""
        flat, kept = self.values.ravel(), self.kept[0].ravel()
        active = np.flatnonzero(flat)
        chosen = active[np.linspace(0, len(active) - 1, min(count, len(active))).astype(np.int64)]
        scaled = np.where(kept, flat / (1 - self.rate), 0)
        return [(int(place), float(flat[place]), float(scaled[place])) for place in chosen]

    @property
    def _off(self) -> dict[str, object]:
        return dict(zip(self.classes, self.off, strict=True))

    @property
    def _on(self) -> list[dict[str, object]]:
        return [
            {"label": label, "confidence": share, "dropped": dropped,
             "probabilities": dict(zip(self.classes, row, strict=True))}
            for (label, share, dropped), row in zip(self.answers, self.on, strict=True)
        ]  # fmt: skip

    @property
    def _examples(self) -> list[dict[str, float]]:
        return [{"place": k, "before": off, "after": on} for k, off, on in self.examples()]
