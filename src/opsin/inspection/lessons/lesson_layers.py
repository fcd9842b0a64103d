"""Layers of a network that have lessons, and the lesson on one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto

from opsin.core.arrays import Pixels
from opsin.core.errors import ModelFileError
from opsin.core.metadata import LayerOp
from opsin.data.spelling import check_choices
from opsin.inspection.lessons.lesson_terms import SENTENCES, Term
from opsin.inspection.lessons.values import BatchNormalisationLesson, DropoutLesson, SoftmaxLesson
from opsin.inspection.lessons.windows import ConvolutionLesson, Lesson, LessonLayer, PoolingLesson
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute
from opsin.onnx_files.postprocessing import LOGITS, PROBABILITIES
from opsin.runtime.classifier import Classifier

# Both ways of naming the axes of height and width, over which a reduction is a pooling.
_PLACES = ({2, 3}, {-2, -1})


def lesson_layers(network: OnnxGraph) -> dict[Term, tuple[LessonLayer, ...]]:
    """The layers that each lesson can be about, in the order of their work."""
    makers = {output: node for node in network.nodes for output in node.output}
    by_term: dict[Term, list[LessonLayer]] = {term: [] for term in SENTENCES}
    named = {layer.name: layer for layer in network.layers}
    for layer in network.layers:
        first: dict[Term, NodeProto] = {}
        for node in _own_nodes(layer.name, makers, named):
            if (term := _term_of(node, network.weights)) is not None:
                first.setdefault(term, node)
        if layer.op is LayerOp.DROPOUT and layer.name in makers:
            first.setdefault("dropout", makers[layer.name])
        for term, node in first.items():
            by_term[term].append(LessonLayer(layer.name, layer.kind, node, layer.name))
    last = named.get(LOGITS) or (network.layers[-1] if network.layers else None)
    answering = makers.get(PROBABILITIES)
    if last is not None and answering is not None and answering.op_type == "Softmax":
        by_term["softmax"].append(LessonLayer(last.name, last.kind, answering))
        head = _dense_before(LOGITS, makers, network.weights)
        if not by_term["dropout"] and head is not None:
            by_term["dropout"].append(LessonLayer(last.name, last.kind, head, head.input[0]))
    return {term: tuple(layers) for term, layers in by_term.items() if layers}


def _own_nodes(
    name: str, makers: Mapping[str, NodeProto], named: Mapping[str, object]
) -> list[NodeProto]:
    """The operators of a layer, back to the outputs of other layers, in the order of their work."""
    nodes, pending, seen = [], [name], {name}
    while pending:
        node = makers.get(pending.pop())
        if node is None:
            continue
        nodes.append(node)
        if node.op_type != "Concat":  # what it joins comes from other layers
            further = [value for value in node.input if value not in named and value not in seen]
            seen.update(further)
            pending += further
    return nodes[::-1]


def _term_of(node: NodeProto, weights: Mapping[str, NDArray[Any]]) -> Term | None:
    """The lesson of an operator on maps of two axes, if there is one."""
    kind = node.op_type
    held = weights.get(node.input[1]) if len(node.input) > 1 else None
    if kind == "Conv":
        sides = attribute(node, "kernel_shape", () if held is None else held.shape[2:])
        return "convolution" if len(sides) == 2 else None
    if kind in ("MaxPool", "AveragePool"):
        return "pooling" if len(attribute(node, "kernel_shape", ())) == 2 else None
    if kind in ("ReduceMax", "ReduceMean"):
        axes = attribute(node, "axes", ()) if held is None else held.ravel().tolist()
        return "pooling" if set(axes) in _PLACES else None
    named: dict[str, Term] = {
        "GlobalMaxPool": "pooling",
        "GlobalAveragePool": "pooling",
        "BatchNormalization": "batch-normalisation",
        "Dropout": "dropout",
    }
    return named.get(kind)


def _dense_before(
    value: str, makers: Mapping[str, NodeProto], weights: Mapping[str, NDArray[Any]]
) -> NodeProto | None:
    """The dense operator that a value comes from, past a bias that is added."""
    while (node := makers.get(value)) is not None:
        inputs = [name for name in node.input if name and name not in weights]
        if len(inputs) != 1 or node.op_type not in ("Gemm", "MatMul", "Add", "Identity"):
            return None
        if node.op_type in ("Gemm", "MatMul"):
            return node if node.input[0] == inputs[0] else None
        value = inputs[0]
    return None


def explain_layer(
    classifier: Classifier,
    network: OnnxGraph,
    pixels: Pixels,
    term: Term,
    layer: str | None = None,
) -> Lesson:
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
