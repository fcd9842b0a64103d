"""A trained network becomes classifier.onnx, checked against it.

PyTorch's own exporter would do, at a price: 3 to 5 seconds cold, BatchNorm folded away or four
nodes of shape arithmetic around each convolution, and layer names to be recovered afterwards.
The networks of `opsin.models` are made of a dozen kinds of layers, so here each becomes the one
standard operator that it is, its output under its own name, in milliseconds; and the parity check
compares the file with the network on real images before anyone can use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, fx, nn

from opsin.core.errors import RecipeError
from opsin.core.metadata import Metadata
from opsin.models.torch_layers import Add, GlobalMaximum, Normalise
from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.operators import OPERATORS, Operator
from opsin.onnx_files.parity import answers_of, check_answers
from opsin.onnx_files.postprocessing import write_file
from opsin.runtime.classifier import Classifier


class _LayerWriter(GraphWriter):
    """Stores the tensors of layers as well."""

    def tensor(self, name: str, value: Tensor) -> str:
        """Store a tensor and return the name to use as an input."""
        array = value.detach().cpu().numpy()
        return self.weight(name, array, array.dtype.type)

    def held(self, name: str, layer: nn.Module, *tensors: str) -> list[str]:
        """Store some of a layer's tensors, those that it has."""
        return [
            self.tensor(f"{name}.{tensor}", getattr(layer, tensor))
            for tensor in tensors
            if getattr(layer, tensor) is not None
        ]


_Converter = Callable[[_LayerWriter, str, Any, list[str]], None]


def _normalise(to: _LayerWriter, name: str, layer: Normalise, inputs: list[str]) -> None:
    # Channels first while a pixel is a byte: the arithmetic then has long runs with one mean each,
    # and takes a third of the time or less (docs/understand/measured.md). The numbers are
    # the same.
    mean, deviation = (
        to.tensor(f"{name}.{part}", getattr(layer, part).reshape(-1, 1, 1))
        for part in ("mean", "deviation")
    )
    planes = to.node("Transpose", inputs, f"{name}.planes", perm=[0, 3, 1, 2])
    pixels = to.node("Cast", [planes], f"{name}.float", to=TensorProto.FLOAT)
    centred = to.node("Sub", [pixels, mean], f"{name}.centred")
    to.node("Div", [centred, deviation], name)


def _conv(to: _LayerWriter, name: str, layer: nn.Conv2d, inputs: list[str]) -> None:
    if layer.padding_mode != "zeros":
        raise RecipeError(
            "a convolution that is padded with zeros",
            f"{name} is padded by {layer.padding_mode!r}",
            "Pad its input by a layer of its own.",
        )
    # "same" and "valid" exist only as numbers here, so that no runtime can read them otherwise.
    before = after = layer.padding
    if isinstance(before, str):
        wide = [
            (size - 1) * step if before == "same" else 0
            for size, step in zip(layer.kernel_size, layer.dilation, strict=True)
        ]
        before = tuple(side // 2 for side in wide)
        after = tuple(side - side // 2 for side in wide)
    to.node(
        "Conv",
        [*inputs, *to.held(name, layer, "weight", "bias")],
        name,
        pads=[int(side) for side in (*before, *after)],
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
        **({"dilations": list(layer.dilation)} if layer.dilation != (1, 1) else {}),
        **({"group": layer.groups} if layer.groups > 1 else {}),
    )


def _dense(to: _LayerWriter, name: str, layer: nn.Linear, inputs: list[str]) -> None:
    to.node("Gemm", [*inputs, *to.held(name, layer, "weight", "bias")], name, transB=1)


def _norm(
    to: _LayerWriter, name: str, layer: nn.BatchNorm1d | nn.BatchNorm2d, inputs: list[str]
) -> None:
    held = to.held(name, layer, "weight", "bias", "running_mean", "running_var")
    to.node("BatchNormalization", [*inputs, *held], name, epsilon=layer.eps)


def _sides(size: int | tuple[int, ...]) -> list[int]:
    return list(size) if isinstance(size, tuple) else [size, size]


def _pool(kind: str) -> _Converter:
    """Return a converter for a pooling of windows."""

    def convert(
        to: _LayerWriter, name: str, layer: nn.MaxPool2d | nn.AvgPool2d, inputs: list[str]
    ) -> None:
        given: dict[str, int | list[int]] = {
            "kernel_shape": _sides(layer.kernel_size),
            "strides": _sides(layer.stride),
        }
        if any(_sides(layer.padding)):
            given["pads"] = _sides(layer.padding) * 2
        if layer.ceil_mode:
            given["ceil_mode"] = 1
        if isinstance(layer, nn.MaxPool2d):
            if _sides(layer.dilation) != [1, 1]:
                given["dilations"] = _sides(layer.dilation)
        elif "pads" in given:
            given["count_include_pad"] = int(layer.count_include_pad)
        to.node(kind, inputs, name, **given)

    return convert


def _mean(to: _LayerWriter, name: str, layer: nn.AdaptiveAvgPool2d, inputs: list[str]) -> None:
    if layer.output_size not in (1, (1, 1)):
        raise RecipeError(
            "AdaptiveAvgPool2d to one place", f"{name} gives {layer.output_size}", "Use AvgPool2d."
        )
    to.node("GlobalAveragePool", inputs, name)


def _layer_norm(to: _LayerWriter, name: str, layer: nn.LayerNorm, inputs: list[str]) -> None:
    scale = layer.weight if layer.elementwise_affine else torch.ones(layer.normalized_shape)
    held = [to.tensor(f"{name}.weight", scale)]
    if layer.elementwise_affine:
        held += to.held(name, layer, "bias")
    axis = -len(layer.normalized_shape)
    to.node("LayerNormalization", [*inputs, *held], name, axis=axis, epsilon=layer.eps)


def _group_norm(to: _LayerWriter, name: str, layer: nn.GroupNorm, inputs: list[str]) -> None:
    # Each group is one row of numbers; ONNX's own operator has a scale a group until opset 21.
    groups, channels = layer.num_groups, layer.num_channels
    unit, zero = torch.ones(groups), torch.zeros(groups)
    rows = to.tensor(f"{name}.rows", torch.tensor([0, groups, -1]))
    value = to.node("Reshape", [*inputs, rows], f"{name}.grouped")
    plain = [to.tensor(f"{name}.unit", unit), to.tensor(f"{name}.zero", zero)]
    value = to.node("InstanceNormalization", [value, *plain], f"{name}.even", epsilon=layer.eps)
    shape = to.node("Shape", inputs, f"{name}.shape")
    output = name if not layer.affine else f"{name}.plain"
    value = to.node("Reshape", [value, shape], output)
    if layer.affine:
        scale, shift = (
            to.tensor(f"{name}.{part}", getattr(layer, part).reshape(channels, 1, 1))
            for part in ("weight", "bias")
        )
        to.node("Add", [to.node("Mul", [value, scale], f"{name}.scaled"), shift], name)


def _relu6(to: _LayerWriter, name: str, _: nn.ReLU6, inputs: list[str]) -> None:
    ends = [to.tensor(f"{name}.{end}", torch.tensor(float(end))) for end in (0, 6)]
    to.node("Clip", [*inputs, *ends], name)


def _maximum(to: _LayerWriter, name: str, _: GlobalMaximum, inputs: list[str]) -> None:
    axes = to.tensor(f"{name}.axes", torch.tensor([2, 3]))
    to.node("ReduceMax", [*inputs, axes], name, keepdims=0)


def _silu(to: _LayerWriter, name: str, _: nn.SiLU, inputs: list[str]) -> None:
    gate = to.node("Sigmoid", inputs, f"{name}.gate")
    to.node("Mul", [*inputs, gate], name)


def _plain(kind: str, **attributes: Any) -> _Converter:
    """Return a converter for a layer that is one operator without weights."""

    def convert(to: _LayerWriter, name: str, _: nn.Module, inputs: list[str]) -> None:
        to.node(kind, inputs, name, **attributes)

    return convert


def _by_row(operator: Operator) -> _Converter:
    """Return a converter for a layer that a row of the table is all about."""

    def convert(to: _LayerWriter, name: str, layer: nn.Module, inputs: list[str]) -> None:
        given = {key: getattr(layer, own) for key, own in operator.attributes.items()}
        to.node(operator.name, inputs, name, **given)

    return convert


_CONVERTERS: Final[dict[type[nn.Module], _Converter]] = {
    **{getattr(nn, row.layer): _by_row(row) for row in OPERATORS.values() if row.layer},
    Normalise: _normalise,
    nn.Conv2d: _conv,
    nn.Linear: _dense,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.MaxPool2d: _pool("MaxPool"),
    nn.AvgPool2d: _pool("AveragePool"),
    nn.AdaptiveAvgPool2d: _mean,
    GlobalMaximum: _maximum,
    Add: _plain("Add"),
    nn.Flatten: _plain("Flatten", axis=1),
    # Once trained, dropout passes everything on; its name stays, so that it can be fetched.
    nn.Dropout: _plain("Identity"),
    nn.Dropout2d: _plain("Identity"),
    nn.ReLU6: _relu6,
    nn.SiLU: _silu,
}


def check_exportable(network: nn.Module) -> None:
    """Refuse a network with a layer that cannot be written, before it is trained."""
    for name, layer in network.named_modules():
        if not any(True for _ in layer.children()) and type(layer) not in _CONVERTERS:
            known = ", ".join(sorted(kind.__name__ for kind in _CONVERTERS))
            raise RecipeError(
                f"layers that a file can hold: {known}",
                f"{name} is {type(layer).__name__}",
                "Add it to opsin/onnx_files/operators.py (docs/how-to/extend.md).",
            )


class _Leaves(fx.Tracer):
    """Follows the data from layer to layer, and into none of them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """Stop at every module that holds no others."""
        return not any(True for _ in m.children())


def to_onnx(network: nn.Sequential, metadata: Metadata) -> bytes:
    """Write a network as an ONNX file whose values carry the names of the layers."""
    writer = _LayerWriter()
    names: dict[str, str] = {}
    embedding = ""
    for node in _Leaves().trace(network).nodes:
        if node.op == "placeholder":
            names[node.name] = "images"
        elif node.op == "call_module":
            layer = network.get_submodule(str(node.target))
            inputs = [names[source.name] for source in node.all_input_nodes]
            _CONVERTERS[type(layer)](writer, str(node.target), layer, inputs)
            names[node.name] = str(node.target)
            if node.target == "head":
                embedding = inputs[0]
    units = network.get_submodule("head").get_parameter("weight").shape[1]
    return write_file(writer.nodes, writer.weights, metadata, embedding=embedding, units=units)


def check_parity(file: Classifier, network: nn.Module, images: NDArray[np.uint8]) -> float:
    """Compare a calibrated file's answers with the network's."""
    network.eval()
    parts, own_parts = [], []
    size = max(8, 1_000_000 // (images.shape[1] * images.shape[2]))
    with torch.inference_mode():
        for start in range(0, len(images), size):
            batch = np.ascontiguousarray(images[start : start + size])
            logits = network(torch.from_numpy(batch)).double().numpy()
            own_parts.append(answers_of(file.metadata, logits))
            parts.append(file.probabilities(batch))
    answers, own = np.concatenate(parts), np.concatenate(own_parts)
    return check_answers(answers, own, file.metadata, of="the network")
