"""A trained network becomes classifier.onnx, checked against it.

PyTorch's own exporter takes 3 to 5 seconds, folds BatchNorm away and loses the names of layers.
Here each layer becomes a standard operator, its output under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, fx, nn

from opsin.core.errors import RecipeError
from opsin.core.metadata import Metadata
from opsin.models.torch_layers import Add, GlobalMaximum, Normalise
from opsin.onnx_files.operators import OPERATORS
from opsin.onnx_files.postprocessing import GraphWriter, answers_of, check_answers, write_file
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
    to.node(
        "Conv",
        [*inputs, *to.held(name, layer, "weight", "bias")],
        name,
        pads=[int(side) for side in layer.padding] * 2,
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


def _max_pool(to: _LayerWriter, name: str, layer: nn.MaxPool2d, inputs: list[str]) -> None:
    kernel, strides, padding = (
        list(size) if isinstance(size, tuple) else [size, size]
        for size in (layer.kernel_size, layer.stride, layer.padding)
    )
    pads = {"pads": padding * 2} if any(padding) else {}
    to.node("MaxPool", inputs, name, kernel_shape=kernel, strides=strides, **pads)


def _maximum(to: _LayerWriter, name: str, _: GlobalMaximum, inputs: list[str]) -> None:
    axes = to.tensor(f"{name}.axes", torch.tensor([2, 3]))
    to.node("ReduceMax", [*inputs, axes], name, keepdims=0)


def _silu(to: _LayerWriter, name: str, _: nn.SiLU, inputs: list[str]) -> None:
    gate = to.node("Sigmoid", inputs, f"{name}.gate")
    to.node("Mul", [*inputs, gate], name)


def _plain(kind: str, attributes: Mapping[str, str] = {}, **constants: Any) -> _Converter:
    """Return a converter for a layer that is one operator without weights."""

    def convert(to: _LayerWriter, name: str, layer: nn.Module, inputs: list[str]) -> None:
        values = {key: getattr(layer, option) for key, option in attributes.items()}
        to.node(kind, inputs, name, **values, **constants)

    return convert


_CONVERTERS: Final[dict[type[nn.Module], _Converter]] = {
    **{
        getattr(nn, row.layer): _plain(row.name, row.attributes)
        for row in OPERATORS.values()
        if row.layer
    },
    Normalise: _normalise,
    nn.Conv2d: _conv,
    nn.Linear: _dense,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveAvgPool2d: _plain("GlobalAveragePool"),  # to one place
    GlobalMaximum: _maximum,
    Add: _plain("Add"),
    nn.Flatten: _plain("Flatten", axis=1),
    # Dropout becomes an identity, so that its name can still be fetched.
    nn.Dropout: _plain("Identity"),
    nn.Dropout2d: _plain("Identity"),
    nn.SiLU: _silu,
}


def check_exportable(network: nn.Module) -> None:
    """Refuse a network with a layer that cannot be written, before it is trained."""
    for name, layer in network.named_modules():
        if not any(True for _ in layer.children()) and type(layer) not in _CONVERTERS:
            known = ", ".join(sorted(kind.__name__ for kind in _CONVERTERS))
            raise RecipeError(
                f"{name} is {type(layer).__name__}, and a file can hold {known}",
                "Add it to opsin/onnx_files/operators.py (docs/how-to/extend.md).",
            )


class _Leaves(fx.Tracer):
    """Traces from layer to layer, and into none of them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return not any(True for _ in m.children())


def to_onnx(network: nn.Sequential, metadata: Metadata) -> bytes:
    """The ONNX file of a network, whose values carry the names of the layers."""
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
    parts, expected_parts = [], []
    size = max(8, 1_000_000 // (images.shape[1] * images.shape[2]))
    with torch.inference_mode():
        for start in range(0, len(images), size):
            batch = np.ascontiguousarray(images[start : start + size])
            logits = network(torch.from_numpy(batch)).double().numpy()
            expected_parts.append(answers_of(file.metadata, logits))
            parts.append(file.probabilities(batch))
    answers, expected = np.concatenate(parts), np.concatenate(expected_parts)
    return check_answers(answers, expected, file.metadata, of="the network")
