"""Layers of a network that have lessons, and the values around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from opsin.core.arrays import Floats, Pixels
from opsin.core.errors import ModelFileError
from opsin.core.metadata import LayerOp
from opsin.inspection.lessons.lesson_terms import SENTENCES, Term
from opsin.inspection.plain_data import PlainData
from opsin.onnx_files.onnx_graph import OnnxGraph, Subnetwork, attribute
from opsin.onnx_files.postprocessing import IMAGES, LOGITS, PROBABILITIES

# Both ways of naming the axes of height and width, over which a reduction is a pooling.
_PLACES = ({2, 3}, {-2, -1})


@dataclass(frozen=True)
class LessonLayer:
    """A layer that a lesson can be about, and the operator in it that the lesson shows."""

    name: str
    kind: str
    node: NodeProto
    value: str = ""  # what dropout acts on


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


def fetch(
    network: OnnxGraph, pixels: Pixels, names: Iterable[str], *, whole: bool = False
) -> dict[str, Floats]:
    """Values of a network for one image, and weights, by name; ``""`` is passed over."""
    wanted = [name for name in dict.fromkeys(names) if name]
    arrays = {name: network.weights[name] for name in wanted if name in network.weights}
    if computed := [name for name in wanted if name not in arrays]:
        part = Subnetwork(network.up_to(computed))
        values = part.run({IMAGES: np.ascontiguousarray(pixels[None])})
        # Values made of weights alone have no batch axis.
        of_images = {IMAGES}
        for node in network.leading_to(computed):
            if of_images.intersection(node.input):
                of_images.update(node.output)
        for name, value in zip(part.outputs, values, strict=True):
            arrays[name] = value if whole or name not in of_images else value[0]
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise ModelFileError(
                f"{name} holds values that are no finite numbers for this image",
                "Train again, best at a smaller --learning-rate.",
            )
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


@dataclass(frozen=True)
class Lesson(PlainData):
    """A layer's work on one image, in numbers of seven digits, as float32 holds."""

    DIGITS = 7
    term: ClassVar[Term]
    layer: str
    kind: str


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
        "GlobalMaxPool": "pooling", "GlobalAveragePool": "pooling",
        "BatchNormalization": "batch-normalisation", "Dropout": "dropout",
    }  # fmt: skip
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
