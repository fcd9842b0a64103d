"""The lesson about a layer, chosen by term and name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError
from opsin.data.spelling import check_choices
from opsin.inspection.lessons.batch_normalisation import (
    BatchNormalisationLesson,
    batch_normalisation_lesson,
)
from opsin.inspection.lessons.convolution import ConvolutionLesson, convolution_lesson
from opsin.inspection.lessons.dropout import DropoutLesson, dropout_lesson
from opsin.inspection.lessons.lesson_layers import LessonLayer, lesson_layers
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.pooling import PoolingLesson, pooling_lesson
from opsin.inspection.lessons.softmax import SoftmaxLesson, softmax_lesson
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.classifier import Classifier

#: What a lesson says; each has ``term``, ``layer``, ``kind`` and `to_json`.
Lesson = (
    ConvolutionLesson | PoolingLesson | BatchNormalisationLesson | DropoutLesson | SoftmaxLesson
)
_LESSONS: Final[
    dict[Term, Callable[[Classifier, OnnxGraph, LessonLayer, NDArray[np.uint8]], Lesson]]
] = {
    "convolution": convolution_lesson,
    "pooling": pooling_lesson,
    "batch-normalisation": batch_normalisation_lesson,
    "dropout": dropout_lesson,
    "softmax": softmax_lesson,
}


def explain_layer(
    classifier: Classifier,
    network: OnnxGraph,
    pixels: NDArray[np.uint8],
    term: Term,
    layer: str | None = None,
) -> Lesson:
    """Return what a layer does to an image, with its real numbers.

    Args:
        classifier: An open classifier.
        network: Its network.
        pixels: A prepared image, ``uint8[H, W, C]``.
        term: The lesson.
        layer: Name of the layer (default: the first one of that kind).

    Raises:
        ModelFileError: The network has no such layer, or that layer is none of this kind.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> file = run.classifier()
        >>> network, pixels = OnnxGraph(file.content), opsin.load("digits").images[0]
        >>> lesson = explain_layer(file, network, pixels, "softmax")
        >>> bool(abs(lesson.at(lesson.temperature) - lesson.probabilities).max() < 1e-6)
        True
    """
    known = lesson_layers(network)
    if term not in known:
        raise ModelFileError(
            f"a network with {term.replace('-', ' ')}",
            f"this {classifier.metadata.model} has no such layer",
            f"What it has: {', '.join(known) or 'no layers'}.",
        )
    chosen = known[term]
    if layer is None:
        found = chosen[0]
    else:
        check_choices(f"layer with {term.replace('-', ' ')}", [layer],
                      [each.name for each in chosen], ModelFileError)  # fmt: skip
        found = next(each for each in chosen if each.name == layer)
    return _LESSONS[term](classifier, network, found, pixels)
