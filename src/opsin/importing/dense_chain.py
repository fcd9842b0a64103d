"""Weights of dense layers, one behind the other, become a network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from opsin.importing.converted import model_of
from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.refusal import quoted, refused

_ENDS: Final = re.compile(r"\.?(weight|bias)$")


def dense_chain(file: str, tensors: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """Return a network of dense layers with ReLU between them, each called as its weights are."""
    layers: dict[str, dict[str, NDArray[Any]]] = {}
    for name, values in tensors.items():
        part = _ENDS.search(name)
        if part is None:
            raise _not_dense(file, name, "is no weight and no bias of a dense layer")
        layers.setdefault(_ENDS.sub("", name) or "dense", {})[part[1]] = values
    to = GraphWriter()
    value, units = "rows", 0
    for place, (name, held) in enumerate(layers.items()):
        weight = held.get("weight")
        if weight is None or weight.ndim != 2 or 0 in weight.shape:
            raise _not_dense(file, name, "is no dense layer")
        if place and weight.shape[1] != units:
            raise _not_dense(file, name, f"takes {weight.shape[1]} numbers and is given {units}")
        bias = held.get("bias", np.zeros(len(weight)))
        if bias.shape != (len(weight),):
            raise _not_dense(file, name, "has a bias of another size")
        inputs = [to.weight(f"{name}.weight", weight, np.float32),
                  to.weight(f"{name}.bias", bias, np.float32)]  # fmt: skip
        value = to.node("Gemm", [value, *inputs], name, transB=1)
        if place + 1 < len(layers):
            value = to.node("Relu", [value], f"{name}.relu")
        units = len(weight)
    if not layers:
        raise refused(file, "it holds no weights")
    first = next(iter(layers.values()))["weight"].shape[1]
    ends = [(name, TensorProto.FLOAT, (size,)) for name, size in (("rows", first), (value, units))]
    return model_of(to, "dense layers", "weights", *ends)


def _not_dense(file: str, name: str, why: str) -> Exception:
    return refused(
        file,
        f"its {quoted(name)} {why}, so its weights are not those of a chain of dense layers",
        "Give the network's graph beside them: --graph FILE.onnx. From PyTorch: "
        "torch.onnx.export(model.eval(), (images,), 'NAME.onnx', dynamo=True).",
    )


def with_tensors(
    file: str, model: onnx.ModelProto, tensors: Mapping[str, NDArray[Any]]
) -> onnx.ModelProto:
    """Return a graph with its weights exchanged for those of the same names."""
    taken = 0
    for weight in model.graph.initializer:
        values = tensors.get(weight.name)
        if values is None:
            continue
        if tuple(weight.dims) != values.shape:
            has, needs = ("×".join(map(str, each)) for each in (values.shape, weight.dims))
            raise refused(file, f"its {quoted(weight.name)} has {has}, and the graph needs {needs}")
        dtype = helper.tensor_dtype_to_np_dtype(weight.data_type)
        weight.CopyFrom(numpy_helper.from_array(values.astype(dtype), weight.name))
        taken += 1
    if not taken:
        raise refused(
            file, "none of its weights has a name of the graph's",
            "Export the graph with the names kept: torch.onnx.export(…, dynamo=True).",
        )  # fmt: skip
    return model
