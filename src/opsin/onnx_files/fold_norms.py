"""BatchNorm becomes part of the convolution beside it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import Layer
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute

if TYPE_CHECKING:
    from onnx import NodeProto

Numbers = NDArray[np.float64]


def fold(graph: OnnxGraph) -> list[Layer]:
    """Fold each BatchNorm into a convolution, in place, and return the layers that are left."""
    rows = {layer.name: layer for layer in graph.layers}
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        if not _are_weights(graph, norm.input[1:]) or attribute(norm, "training_mode", 0):
            continue
        weight, bias, mean, variance = (graph.weights[name].astype(np.float64)
                                        for name in norm.input[1:])  # fmt: skip
        scale = weight / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
        shift = bias - mean * scale
        if not _into_earlier(graph, rows, norm, scale, shift):
            _into_later(graph, rows, norm, scale, shift)
    return list(rows.values())


def _into_earlier(
    graph: OnnxGraph, rows: dict[str, Layer], norm: NodeProto, scale: Numbers, shift: Numbers
) -> bool:
    """Fold into the convolution before it, also past pooling, with its ReLU."""
    conv, pool, relu = graph.maker(norm.input[0]), None, None
    if conv is None or _only_user(graph, norm.input[0]) is None:
        return False
    if conv.op_type == "MaxPool":
        pool, conv = conv, graph.maker(conv.input[0])
        if _only_user(graph, pool.input[0]) is None or not (scale > 0).all():
            return False
        user = _only_user(graph, norm.output[0])
        relu = user if user is not None and user.op_type == "Relu" else None
    name = (relu or norm).output[0]
    if conv is None or not _can_hold(graph, conv, norm, name):
        return False
    weight, bias = _weights_of(graph, conv)
    scaled = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    _store(graph, conv, name, scaled, bias * scale + shift)
    parts = [node.output[0] for node in (conv, norm, relu, pool) if node is not None]
    if pool is not None:
        conv.output[0] = pool.input[0] = f"{name}.wide"
        if relu is not None:
            relu.input[0], relu.output[0] = conv.output[0], f"{name}.high"
            pool.input[0] = relu.output[0]
            graph.nodes.remove(relu)
            graph.nodes.insert(graph.nodes.index(pool), relu)
    (pool or conv).output[0] = name
    graph.nodes.remove(norm)
    _join(graph, rows, name, parts)
    return True


def _into_later(
    graph: OnnxGraph, rows: dict[str, Layer], norm: NodeProto, scale: Numbers, shift: Numbers
) -> None:
    """Fold into the convolution behind it, if that has no padding."""
    conv = _only_user(graph, norm.output[0])
    if conv is None or attribute(conv, "group", 1) != 1 or any(attribute(conv, "pads", [])):
        return
    if attribute(conv, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return
    name, gone = conv.output[0], norm.output[0]
    if not _can_hold(graph, conv, norm, name):
        return
    weight, bias = _weights_of(graph, conv)
    sides = tuple(range(2, weight.ndim))
    further = weight.sum(axis=sides) @ shift
    scaled = weight * scale.reshape(1, -1, *[1] * len(sides))
    _store(graph, conv, name, scaled, bias + further)
    conv.input[0] = norm.input[0]
    graph.nodes.remove(norm)
    _join(graph, rows, name, [gone, name])


def _only_user(graph: OnnxGraph, value: str) -> NodeProto | None:
    users = graph.users(value)
    is_output = any(output.name == value for output in graph.model.graph.output)
    return users[0] if len(users) == 1 and not is_output else None


def _can_hold(graph: OnnxGraph, conv: NodeProto, norm: NodeProto, name: str) -> bool:
    """Tell whether a BatchNorm fits into a convolution's weights, under a layer's name."""
    users = (*graph.users(f"{name}.weight"), *graph.users(f"{name}.bias"))
    return (
        conv.op_type == "Conv"
        and _are_weights(graph, conv.input[1:])
        and all(user in (conv, norm) for user in users)
    )


def _are_weights(graph: OnnxGraph, names: Iterable[str]) -> bool:
    return all(name in graph.weights and graph.weights[name].dtype == np.float32
               for name in names if name)  # fmt: skip


def _weights_of(graph: OnnxGraph, conv: NodeProto) -> tuple[Numbers, Numbers]:
    weight = graph.weights[conv.input[1]].astype(np.float64)
    if len(conv.input) < 3 or not conv.input[2]:
        return weight, np.zeros(len(weight))
    return weight, graph.weights[conv.input[2]].astype(np.float64)


def _store(
    graph: OnnxGraph, conv: NodeProto, name: str, weight: NDArray[Any], bias: NDArray[Any]
) -> None:
    graph.weights[f"{name}.weight"] = weight.astype(np.float32)
    graph.weights[f"{name}.bias"] = bias.astype(np.float32)
    conv.input[:] = [conv.input[0], f"{name}.weight", f"{name}.bias"]


def _join(graph: OnnxGraph, rows: dict[str, Layer], name: str, parts: list[str]) -> None:
    """Merge the summary rows of folded layers, ``name`` among them, into one."""
    if name not in rows:
        return
    joined = [rows[part] for part in parts if part in rows]
    held = sum(graph.weights[f"{name}.{kind}"].size for kind in ("weight", "bias"))
    rows[name] = rows[name].model_copy(
        update={
            "kind": " + ".join(row.kind for row in joined),
            "parameters": held,
            "trainable": held if any(row.trainable for row in joined) else 0,
            "multiply_adds": sum(row.multiply_adds for row in joined),
        }
    )
    for part in set(parts) - {name}:
        rows.pop(part, None)
