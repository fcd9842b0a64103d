"""Logits become probabilities, and a temperature decides how sure they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from opsin.core.stored_json import JsonObject
from opsin.inspection.lessons.lesson_layers import LessonLayer, fetch, plain
from opsin.inspection.lessons.lesson_terms import Term
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.postprocessing import PROBABILITIES
from opsin.runtime.classifier import Classifier


@dataclass(frozen=True)
class SoftmaxLesson:
    """How the logits of an image become its probabilities.

    Args:
        layer: Name of the layer that puts the logits out.
        kind: What it is.
        classes: Names of the classes.
        logits: ``float32[K]``
        temperature: What they are divided by: 1, or what calibration found.
        mix: What is added to each afterwards, since classes are more or less common than in the
            training, ``float32[K]``; mostly 0.
        probabilities: Those in the file, ``float32[K]``.
    """

    term: ClassVar[Term] = "softmax"
    layer: str
    kind: str
    classes: tuple[str, ...]
    logits: NDArray[np.float32] = field(repr=False)
    temperature: float
    mix: NDArray[np.float32] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)

    @property
    def exponentials(self) -> NDArray[np.float64]:
        """The exponential of each logit over the temperature, the largest as 1, ``float64[K]``."""
        return self._exponentials(self.temperature)

    @property
    def order(self) -> list[int]:
        """Places of the classes, the most probable first."""
        return [int(place) for place in np.argsort(-self.probabilities, kind="stable")]

    def at(self, temperature: float) -> NDArray[np.float64]:
        """Return the probabilities at another temperature, ``float64[K]``.

        Args:
            temperature: Above 0; below 1 the answer is surer, above it less sure.
        """
        found = self._exponentials(temperature)
        return np.asarray(found / found.sum())

    def _exponentials(self, temperature: float) -> NDArray[np.float64]:
        put = np.asarray(self.logits, np.float64) / temperature + self.mix
        return np.asarray(np.exp(put - put.max()))

    def to_json(self) -> JsonObject:
        """Return it as plain data."""
        return {
            "term": self.term,
            "layer": self.layer,
            "kind": self.kind,
            "temperature": plain(np.asarray(self.temperature)),
            "classes": [
                {
                    "class": self.classes[place],
                    "logit": plain(self.logits[place]),
                    "mix": plain(self.mix[place]),
                    "total": plain(self.at(self.temperature)[place]),
                    "probability": plain(self.probabilities[place]),
                    "uncalibrated": plain(self.at(1)[place]),
                }
                for place in self.order
            ],
        }


def softmax_lesson(
    classifier: Classifier,
    network: OnnxGraph,
    found: LessonLayer,
    pixels: NDArray[np.uint8],
) -> SoftmaxLesson:
    """Return how the logits of an image become its probabilities.

    Args:
        classifier: An open classifier.
        network: Its network.
        found: The layer.
        pixels: A prepared image, ``uint8[H, W, C]``.

    Raises:
        ModelFileError: A value is infinite or no number.
    """
    logits, temperature, mix = _before_softmax(network, found.node)
    values = fetch(network, pixels, [logits, temperature, mix, PROBABILITIES])
    count = len(classifier.classes)
    return SoftmaxLesson(
        layer=found.name,
        kind=found.kind,
        classes=classifier.classes,
        logits=values[logits].reshape(count),
        temperature=float(values[temperature].ravel()[0]) if temperature else 1.0,
        mix=np.broadcast_to(values[mix].ravel(), count) if mix else np.zeros(count, np.float32),
        probabilities=values[PROBABILITIES],
    )


def _before_softmax(network: OnnxGraph, softmax: NodeProto) -> tuple[str, str, str]:
    """Return the logits, and the weights that they are divided by and that are added, if any.

    They are what calibration puts between the network and its softmax.
    """
    value, temperature, mix = softmax.input[0], "", ""
    added = network.maker(value)
    if added is not None and added.op_type == "Add" and added.input[1] in network.weights:
        value, mix = added.input
    divided = network.maker(value)
    if divided is not None and divided.op_type == "Div" and divided.input[1] in network.weights:
        value, temperature = divided.input
    elif mix:  # a bias of the network's own
        value, mix = softmax.input[0], ""
    return value, temperature, mix
