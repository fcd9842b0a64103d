"""Which layers of a network there are lessons about, and the numbers that go in and come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from opsin.core.errors import ModelFileError
from opsin.core.metadata import Layer, LayerOp
from opsin.inspection.lessons.lesson_terms import SENTENCES, Term
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute
from opsin.onnx_files.postprocessing import IMAGES, LOGITS, PROBABILITIES
from opsin.onnx_files.subnetwork import Subnetwork

# What takes a map as a whole to one number, and the axes that it then goes over.
_REDUCING = {"ReduceMax": "max", "ReduceMean": "mean"}
_PLACES = ({2, 3}, {-2, -1})


@dataclass(frozen=True)
class LessonLayer:
    """A layer that a lesson can be about.

    Args:
        name: Its name in the summary table.
        kind: What it is: ``Conv 3×3 same``, ``MaxPool 2`` …
        node: The operator that the lesson is about. A layer may hold others, such as an
            activation.
        value: What dropout acts on: the layer's own value, or, where the network has no dropout,
            what its last layer takes; else ``""``.
    """

    name: str
    kind: str
    node: NodeProto
    value: str = ""


def lesson_layers(network: OnnxGraph) -> dict[Term, tuple[LessonLayer, ...]]:
    """Return which layers each lesson can be about, in the order of their work.

    Terms that the network has no layer for are left out. A network without dropout is shown what
    dropout in front of its last layer would do.

    Args:
        network: The network in a file.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> found = lesson_layers(OnnxGraph(run.classifier().content))
        >>> {term: [each.name for each in layers] for term, layers in found.items()}
        {'dropout': ['head'], 'softmax': ['head']}
    """
    makers = {output: node for node in network.nodes for output in node.output}
    found: dict[Term, list[LessonLayer]] = {term: [] for term in SENTENCES}
    named = {layer.name: layer for layer in network.layers}
    for layer in network.layers:
        for term, node in _own_terms(network, layer, makers, named).items():
            value = layer.name if term == "dropout" else ""
            found[term].append(LessonLayer(layer.name, layer.kind, node, value))
    last = named.get(LOGITS) or (network.layers[-1] if network.layers else None)
    answering = makers.get(PROBABILITIES)
    if last is not None and answering is not None and answering.op_type == "Softmax":
        found["softmax"].append(LessonLayer(last.name, last.kind, answering))
        head = _dense_before(LOGITS, makers, network.weights)
        if not found["dropout"] and head is not None:
            found["dropout"].append(LessonLayer(last.name, last.kind, head, head.input[0]))
    return {term: tuple(layers) for term, layers in found.items() if layers}


def fetch(
    network: OnnxGraph,
    pixels: NDArray[np.uint8],
    names: Iterable[str],
    *,
    whole: bool = False,
) -> dict[str, NDArray[np.float32]]:
    """Return values of a network for one image, and weights, as they are in its file.

    Args:
        network: The network in a file.
        pixels: A prepared image, ``uint8[H, W, C]``.
        names: Of values and weights; ``""`` is passed over.
        whole: Keep the axis of images; a network may see several views of one along it.

    Returns:
        By name; of values without the axis of images, the first view.

    Raises:
        ModelFileError: A value is infinite or no number.
    """
    wanted = [name for name in dict.fromkeys(names) if name]
    found = {name: network.weights[name] for name in wanted if name in network.weights}
    computed = [name for name in wanted if name not in found]
    if computed:
        part = Subnetwork(network.up_to(computed))
        values = part.run({IMAGES: np.ascontiguousarray(pixels[None])})
        made = set() if whole else _of_images(network, computed)
        for name, value in zip(part.outputs, values, strict=True):
            found[name] = value[0] if name in made else value
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise ModelFileError(
                "values that are finite numbers",
                f"{name} holds others for this image",
                "Train again, best at a smaller --rate.",
            )
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def plain(values: NDArray[Any]) -> Any:
    """Return numbers as lists, to seven digits, which is what float32 holds."""
    if values.ndim:
        return [plain(each) for each in values]
    return float(f"{float(values):.7g}")


def _of_images(network: OnnxGraph, names: Iterable[str]) -> set[str]:
    """Return which values have an axis of images: those that are not made of weights alone."""
    follows = {IMAGES}
    for node in network.leading_to(names):
        if follows.intersection(node.input):
            follows.update(node.output)
    return follows


def _own_terms(
    network: OnnxGraph,
    layer: Layer,
    makers: Mapping[str, NodeProto],
    named: Mapping[str, Layer],
) -> dict[Term, NodeProto]:
    """Return what a layer can teach, by its first operator of each sort."""
    found: dict[Term, NodeProto] = {}
    for node in _own_nodes(layer.name, makers, named):
        term = _term_of(node, network.weights)
        if term is not None:
            found.setdefault(term, node)
    if layer.op is LayerOp.DROPOUT and layer.name in makers:
        found.setdefault("dropout", makers[layer.name])
    return found


def _own_nodes(
    name: str, makers: Mapping[str, NodeProto], named: Mapping[str, Layer]
) -> Iterator[NodeProto]:
    """Give the operators of a layer, the first first.

    They go back to what other layers put out. What joins values is no part of where they come from.
    """
    nodes, pending, seen = [], [name], {name}
    while pending:
        node = makers.get(pending.pop())
        if node is None:
            continue
        nodes.append(node)
        if node.op_type == "Concat":
            continue
        further = [value for value in node.input if value not in named and value not in seen]
        seen.update(further)
        pending += further
    return reversed(nodes)


def _term_of(node: NodeProto, weights: Mapping[str, NDArray[Any]]) -> Term | None:
    """Return which lesson an operator is of, if there is one: those on maps of two axes."""
    if node.op_type == "Conv":
        held = weights.get(node.input[1])
        sides = attribute(node, "kernel_shape", () if held is None else held.shape[2:])
        return "convolution" if len(sides) == 2 else None
    if node.op_type in ("MaxPool", "AveragePool"):
        return "pooling" if len(attribute(node, "kernel_shape", ())) == 2 else None
    if node.op_type in ("GlobalMaxPool", "GlobalAveragePool") or (
        node.op_type in _REDUCING and _axes(node, weights) in _PLACES
    ):
        return "pooling"
    named: dict[str, Term] = {"BatchNormalization": "batch-normalisation", "Dropout": "dropout"}
    return named.get(node.op_type)


def _axes(node: NodeProto, weights: Mapping[str, NDArray[Any]]) -> set[int]:
    """Return the axes that a reducing operator goes over, which stand in one of two places."""
    held = weights.get(node.input[1]) if len(node.input) > 1 else None
    return set(attribute(node, "axes", ()) if held is None else held.ravel().tolist())


def _dense_before(
    value: str, makers: Mapping[str, NodeProto], weights: Mapping[str, NDArray[Any]]
) -> NodeProto | None:
    """Return the dense operator that a value comes from, past a bias that is added."""
    while (node := makers.get(value)) is not None:
        given = [each for each in node.input if each and each not in weights]
        if len(given) != 1 or node.op_type not in ("Gemm", "MatMul", "Add", "Identity"):
            return None
        if node.op_type in ("Gemm", "MatMul"):
            return node if node.input[0] == given[0] else None
        value = given[0]
    return None
