"""Weights that were rounded shift a layer's mean; its bias takes the shift back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from opsin.onnx_files.onnx_graph import OnnxGraph, attribute
from opsin.onnx_files.postprocessing import IMAGES
from opsin.runtime.providers import cpu_session

Means = dict[str, NDArray[np.float64]]


def mean_inputs(graph: OnnxGraph, batches: Iterable[NDArray[np.uint8]]) -> Means:
    """Return what each layer with a bias gets on average, by the value's name: ``float64[C]``."""
    names = list(dict.fromkeys(node.input[0] for node in _layers(graph)))
    if not names:
        return {}
    session = cpu_session(graph.up_to(names))
    sums, count = dict.fromkeys(names, np.zeros(())), 0
    for images in batches:
        for name, value in zip(names, session.run(names, {IMAGES: images}), strict=True):
            over = tuple(range(2, value.ndim))
            sums[name] = sums[name] + value.mean(axis=over, dtype=np.float64).sum(axis=0)
        count += len(images)
    return {name: value / count for name, value in sums.items()}


def correct_biases(quantised: OnnxGraph, graph: OnnxGraph, means: Means) -> None:
    """Take back, in place, what rounding each layer's weights added to its mean."""
    for layer in _layers(graph):
        node = quantised.maker(layer.output[0])
        if node is None or len(node.input) < 3:
            continue
        weight, bias = (quantised.maker(name) for name in node.input[1:3])
        if weight is None or bias is None:
            continue  # this layer stayed in float
        integers, scale = (quantised.weights[name] for name in weight.input[:2])
        scale = scale.reshape(-1, *[1] * (integers.ndim - 1)) if scale.ndim else scale
        error = integers * scale.astype(np.float64) - graph.weights[layer.input[1]]
        shift = _shift(layer, error, means[layer.input[0]])
        steps = shift / quantised.weights[bias.input[1]].astype(np.float64)
        held = quantised.weights[bias.input[0]]
        quantised.weights[bias.input[0]] = (held - np.round(steps)).astype(held.dtype)


def _layers(graph: OnnxGraph) -> list[NodeProto]:
    """Return the layers that have a bias, and weights of which each filter or row is one answer."""
    found = []
    for node in graph.nodes:
        whole = node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0))
        if whole and len(node.input) > 2 and node.input[1] in graph.weights:
            found.append(node)
    return found


def _shift(
    layer: NodeProto, error: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what an error of the weights adds to each of a layer's answers on average."""
    error = error.reshape(*error.shape[:2], -1).sum(axis=2)
    groups = attribute(layer, "group", 1)
    each = np.repeat(mean.reshape(groups, -1), len(error) // groups, axis=0)
    shift: NDArray[np.float64] = (error * each).sum(axis=1)
    return shift
