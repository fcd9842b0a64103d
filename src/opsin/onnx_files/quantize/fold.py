"""BatchNorm becomes part of the convolution beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from opsin.core.metadata import Layer
from opsin.onnx_files.onnx_graph import OnnxGraph, attribute


def fold(graph: OnnxGraph) -> list[Layer]:
    """Fold each BatchNorm into a convolution, in place, and say which layers are left."""
    rows = {layer.name: layer for layer in graph.layers}
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        if not _are_weights(graph, norm.input[1:]) or attribute(norm, "training_mode", 0):
            continue
        affine = _Affine.of(graph, norm)
        found = _before(graph, norm, affine)
        if found is not None:
            _into_earlier(graph, rows, norm, affine, found)
        elif (conv := _after(graph, norm)) is not None:
            _into_later(graph, rows, norm, affine, conv)
    return list(rows.values())


@dataclass(frozen=True)
class _Affine:
    """What a trained BatchNorm does: times ``scale``, plus ``shift``, ``float64[C]`` each."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def of(cls, graph: OnnxGraph, norm: NodeProto) -> _Affine:
        weight, bias, mean, variance = (graph.weights[name].astype(np.float64)
                                        for name in norm.input[1:])  # fmt: skip
        scale = weight / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
        return cls(scale, bias - mean * scale)


@dataclass(frozen=True)
class _FoldablePair:
    """The operators from a convolution to its BatchNorm, and beyond it where ReLU goes along."""

    conv: NodeProto
    pool: NodeProto | None = None
    relu: NodeProto | None = None


def _before(graph: OnnxGraph, norm: NodeProto, affine: _Affine) -> _FoldablePair | None:
    """Find the convolution that a BatchNorm can be folded back into."""
    maker = graph.maker(norm.input[0])
    if maker is None or _only_user(graph, norm.input[0]) is None:
        return None
    if maker.op_type == "Conv":
        return _FoldablePair(maker) if _can_hold(graph, maker, norm, norm.output[0]) else None
    conv = graph.maker(maker.input[0]) if maker.op_type == "MaxPool" else None
    if conv is None or _only_user(graph, maker.input[0]) is None or not (affine.scale > 0).all():
        return None
    user = _only_user(graph, norm.output[0])
    relu = user if user is not None and user.op_type == "Relu" else None
    holds = _can_hold(graph, conv, norm, (relu or norm).output[0])
    return _FoldablePair(conv, maker, relu) if holds else None


def _after(graph: OnnxGraph, norm: NodeProto) -> NodeProto | None:
    """Find the convolution that a BatchNorm can be folded forward into."""
    conv = _only_user(graph, norm.output[0])
    if conv is None or attribute(conv, "group", 1) != 1 or any(attribute(conv, "pads", [])):
        return None
    if attribute(conv, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    return conv if _can_hold(graph, conv, norm, conv.output[0]) else None


def _only_user(graph: OnnxGraph, value: str) -> NodeProto | None:
    """Return the one operator that takes a value, where the file does not put it out as well."""
    users = graph.users(value)
    is_output = any(output.name == value for output in graph.model.graph.output)
    return users[0] if len(users) == 1 and not is_output else None


def _can_hold(graph: OnnxGraph, conv: NodeProto, norm: NodeProto, name: str) -> bool:
    """Tell whether a convolution's weights can take a BatchNorm in, under the name of a layer."""
    users = (*graph.users(f"{name}.weight"), *graph.users(f"{name}.bias"))
    return (
        conv.op_type == "Conv"
        and _are_weights(graph, conv.input[1:])
        and all(user in (conv, norm) for user in users)
    )


def _are_weights(graph: OnnxGraph, names: Iterable[str]) -> bool:
    """Tell whether these are float32 numbers of the file, and not computed."""
    return all(name in graph.weights and graph.weights[name].dtype == np.float32
               for name in names if name)  # fmt: skip


def _into_earlier(
    graph: OnnxGraph, rows: dict[str, Layer], norm: NodeProto, affine: _Affine, found: _FoldablePair
) -> None:
    conv, pool, relu = found.conv, found.pool, found.relu
    name = (relu or norm).output[0]
    weight, bias = _held(graph, conv)
    scale = affine.scale.reshape(-1, *[1] * (weight.ndim - 1))
    _hold(graph, conv, name, weight * scale, bias * affine.scale + affine.shift)
    parts = [each.output[0] for each in (conv, norm, relu, pool) if each is not None]
    if pool is not None:
        conv.output[0] = f"{name}.wide"
        pool.input[0] = conv.output[0]
        if relu is not None:
            relu.input[0], relu.output[0] = conv.output[0], f"{name}.high"
            pool.input[0] = relu.output[0]
            graph.nodes.remove(relu)
            graph.nodes.insert(graph.nodes.index(pool), relu)
    (pool or conv).output[0] = name
    graph.nodes.remove(norm)
    _join(graph, rows, name, parts)


def _into_later(
    graph: OnnxGraph, rows: dict[str, Layer], norm: NodeProto, affine: _Affine, conv: NodeProto
) -> None:
    name, gone = conv.output[0], norm.output[0]
    weight, bias = _held(graph, conv)
    sides = range(2, weight.ndim)
    further = weight.sum(axis=tuple(sides)) @ affine.shift
    scale = affine.scale.reshape(1, -1, *[1] * len(sides))
    _hold(graph, conv, name, weight * scale, bias + further)
    conv.input[0] = norm.input[0]
    graph.nodes.remove(norm)
    _join(graph, rows, name, [gone, name])


def _held(graph: OnnxGraph, conv: NodeProto) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weight = graph.weights[conv.input[1]].astype(np.float64)
    if len(conv.input) < 3 or not conv.input[2]:
        return weight, np.zeros(len(weight))
    return weight, graph.weights[conv.input[2]].astype(np.float64)


def _hold(
    graph: OnnxGraph, conv: NodeProto, name: str, weight: NDArray[Any], bias: NDArray[Any]
) -> None:
    """Give a convolution its new weights, under the name that its values have from now on."""
    graph.weights[f"{name}.weight"] = weight.astype(np.float32)
    graph.weights[f"{name}.bias"] = bias.astype(np.float32)
    conv.input[:] = [conv.input[0], f"{name}.weight", f"{name}.bias"]


def _join(graph: OnnxGraph, rows: dict[str, Layer], name: str, parts: list[str]) -> None:
    """Make one row of the summary of those whose layers became one, ``name`` among them."""
    last = rows.get(name)
    if last is None:
        return
    ordered = [rows[part] for part in parts if part in rows]
    for part in parts:
        if part != name:
            rows.pop(part, None)
    held = sum(graph.weights[f"{name}.{kind}"].size for kind in ("weight", "bias"))
    rows[name] = last.model_copy(
        update={
            "kind": " + ".join(row.kind for row in ordered),
            "parameters": held,
            "trainable": held if any(row.trainable for row in ordered) else 0,
            "multiply_adds": sum(row.multiply_adds for row in ordered),
        }
    )
