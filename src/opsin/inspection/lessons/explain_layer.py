"""The lesson about a layer, chosen by term and name."""

from __future__ import annotations

from opsin.core.arrays import Pixels
from opsin.core.errors import ModelFileError
from opsin.data.spelling import check_choices
from opsin.inspection.lessons.lesson_layers import Lesson, lesson_layers
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.values import BatchNormalisationLesson, DropoutLesson, SoftmaxLesson
from opsin.inspection.lessons.windows import ConvolutionLesson, PoolingLesson
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier


def explain_layer(
    classifier: Classifier, network: OnnxGraph, pixels: Pixels, term: Term,
    layer: str | None = None,
) -> Lesson:  # fmt: skip
    """The lesson on a layer, by default the first of its kind, ``pixels`` ``uint8[H, W, C]``."""
    known = lesson_layers(network)
    words = term.replace("-", " ")
    if term not in known:
        has = ", ".join(known) or "no layers"
        raise ModelFileError(f"This {classifier.metadata.model} has no {words}; it has {has}")
    layers = {row.name: row for row in reversed(known[term])}
    if layer is None:
        layer = known[term][0].name
    check_choices(f"layer with {words}", [layer], list(layers)[::-1], ModelFileError)
    chosen, classes = layers[layer], classifier.classes
    match term:
        case "convolution":
            return ConvolutionLesson.of(network, chosen, pixels)
        case "pooling":
            return PoolingLesson.of(network, chosen, pixels)
        case "batch-normalisation":
            return BatchNormalisationLesson.of(network, chosen, pixels)
        case "dropout":
            return DropoutLesson.of(network, chosen, pixels, classes)
        case "softmax":
            return SoftmaxLesson.of(network, chosen, pixels, classes)
