"""The layers of a stranger's network, by their names in its file, with what each costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from opsin.core.metadata import Layer, LayerOp
from opsin.onnx_files.onnx_graph import attribute


def layer_table(
    nodes: Sequence[NodeProto],
    weights: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    times: int = 1,
) -> list[Layer]:
    """Return the rows of the summary table, one an operator."""
    rows, known = [], dict(weights)
    for node in nodes:
        taken = [each for each in node.input if each]
        held = [known[each] for each in taken if each in known]
        if len(held) == len(taken):
            if held:
                known[node.output[0]] = _unpacked(node, held[0])
            continue
        name = node.output[0]
        if name not in shapes:
            continue
        rows.append(
            Layer(
                name=name,
                kind=_kind(node, held, shapes.get(node.input[0])),
                shape=shapes[name],
                parameters=sum(each.size for each in held if each.dtype.kind == "f"),
                trainable=0,
                multiply_adds=times * _work(node, held, shapes[name]),
            )
        )
    return rows


def _unpacked(node: NodeProto, weight: NDArray[Any]) -> NDArray[Any]:
    """Return what an operator makes of a weight alone, as far as the table asks: its shape."""
    if node.op_type == "Transpose":
        return weight.transpose(attribute(node, "perm", None))
    if weight.dtype.kind == "f" or weight.size == 1:
        return weight
    return np.broadcast_to(np.float32(0), weight.shape)


def _kind(node: Any, held: list[NDArray[Any]], before: tuple[int, ...] | None) -> str:
    """Return what a layer is, in the words of the summary table."""
    match node.op_type:
        case "Conv":
            kernel = held[0].shape[2:] if held else ()
            sides = "×".join(map(str, attribute(node, "kernel_shape", kernel)))
            groups = attribute(node, "group", 1)
            each = " depthwise" if groups > 1 and before and groups == before[0] else ""
            return f"{LayerOp.CONV} {sides}{each}"
        case "Gemm" | "MatMul" if held:
            return LayerOp.DENSE
        case "Clip":
            return f"{LayerOp.RELU} up to 6" if len(held) == 2 and held[1] == 6 else "Clip"
        case "GlobalAveragePool" | "ReduceMean" | "AveragePool":
            return f"{LayerOp.MEAN} over places"
        case "BatchNormalization":
            return LayerOp.BATCH_NORM
    named = {"Relu": LayerOp.RELU, "Add": LayerOp.ADD, "Flatten": LayerOp.FLATTEN}
    return str(named.get(node.op_type, node.op_type))


def _work(node: Any, held: list[NDArray[Any]], shape: tuple[int, ...]) -> int:
    """Return how many multiplications with an addition a layer takes."""
    if node.op_type == "Conv" and held:
        return math.prod(shape[1:]) * int(held[0].size)
    if node.op_type in ("Gemm", "MatMul") and held:
        tokens = math.prod(shape[:-1])
        return tokens * int(held[0].size)
    return 0
