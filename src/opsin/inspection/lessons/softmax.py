"""Logits become probabilities, and a temperature decides how sure they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from opsin.core.arrays import Doubles, Floats, Pixels
from opsin.inspection.lessons.lesson_layers import Lesson, LessonLayer, fetch
from opsin.inspection.lessons.lesson_terms import Term
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import PROBABILITIES


@dataclass(frozen=True)
class SoftmaxLesson(Lesson):
    """How the logits of an image become its probabilities, K classes."""

    term: ClassVar[Term] = "softmax"
    JSON: ClassVar = "term layer kind temperature classes=rows"
    layer: str
    kind: str
    classes: tuple[str, ...]
    logits: Floats = field(repr=False)  # [K]
    temperature: float  # 1, or what calibration found
    mix: Floats = field(repr=False)  # what the class mix adds, [K]; mostly 0
    probabilities: Floats = field(repr=False)  # those in the file, [K]

    @classmethod
    def of(
        cls,
        network: OnnxGraph,
        found: LessonLayer,
        pixels: Pixels,
        classes: tuple[str, ...],
    ) -> SoftmaxLesson:
        """The lesson about one image."""
        # Calibration puts a division and an addition between the network and its softmax.
        logits, temperature, mix = found.node.input[0], "", ""
        added = network.maker(logits)
        if added is not None and added.op_type == "Add" and added.input[1] in network.weights:
            logits, mix = added.input
        divided = network.maker(logits)
        if divided is not None and divided.op_type == "Div" and divided.input[1] in network.weights:
            logits, temperature = divided.input
        elif mix:  # a bias of the network's own
            logits, mix = found.node.input[0], ""
        values = fetch(network, pixels, [logits, temperature, mix, PROBABILITIES])
        count = len(classes)
        return cls(
            layer=found.name,
            kind=found.kind,
            classes=classes,
            logits=values[logits].reshape(count),
            temperature=float(values[temperature].ravel()[0]) if temperature else 1.0,
            mix=np.broadcast_to(values[mix].ravel(), count) if mix else np.zeros(count, np.float32),
            probabilities=values[PROBABILITIES],
        )

    @property
    def exponentials(self) -> Doubles:
        """The exponential of each logit over the temperature, the largest as 1, ``float64[K]``."""
        return self._exponentials(self.temperature)

    @property
    def order(self) -> list[int]:
        """Places of the classes, the most probable first."""
        return [int(place) for place in np.argsort(-self.probabilities, kind="stable")]

    def at(self, temperature: float) -> Doubles:
        """The probabilities at another temperature; below 1 the answer is surer, ``float64[K]``."""
        found = self._exponentials(temperature)
        return np.asarray(found / found.sum())

    def _exponentials(self, temperature: float) -> Doubles:
        put = np.asarray(self.logits, np.float64) / temperature + self.mix
        return np.asarray(np.exp(put - put.max()))

    @property
    def rows(self) -> list[dict[str, object]]:
        """The numbers of each class by name, the most probable class first."""
        own, uncalibrated = self.at(self.temperature), self.at(1)
        return [
            {"class": self.classes[k], "logit": self.logits[k], "mix": self.mix[k],
             "total": own[k], "probability": self.probabilities[k], "uncalibrated": uncalibrated[k]}
            for k in self.order
        ]  # fmt: skip
