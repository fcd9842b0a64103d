"""A classifier.onnx as a PyTorch module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError, ModelFileError

try:
    import onnx
    import torch
    from onnx import TensorProto, helper
    from torch import Tensor, nn
    from torch.nn import functional

    from opsin.onnx_files.onnx_graph import OnnxGraph
    from opsin.onnx_files.operators import OPERATORS, Operator
    from opsin.onnx_files.postprocessing import IMAGES, LOGITS
except ImportError as error:
    raise MissingExtraError("gradients of a classifier", "train") from error

_TYPES: Final[dict[int, torch.dtype]] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
}


class TorchNetwork(nn.Module):
    """The operators of a classifier.onnx, from float pixels to logits, with its own weights.

    No checkpoint is needed, and nothing can differ from the file: each operator of the graph that
    leads to the logits becomes a module of its own (`layer`), so that hooks, as Captum's, reach it.

    Args:
        content: The bytes of the file.

    Raises:
        ModelFileError: An operator has no gradient, such as the steps of a tree.

    Example:
        >>> nodes = [
        ...     helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        ...     helper.make_node("Flatten", ["float"], ["flatten"], axis=1),
        ...     helper.make_node("Gemm", ["flatten", "head.weight"], ["head"]),
        ... ]
        >>> weight = onnx.numpy_helper.from_array(np.eye(4, 2, dtype=np.float32), "head.weight")
        >>> graph = helper.make_graph(nodes, "two pixels of four", [], [], [weight])
        >>> network = TorchNetwork(helper.make_model(graph).SerializeToString())
        >>> pixels = torch.arange(4.0).reshape(1, 2, 2, 1).requires_grad_()
        >>> network(pixels).tolist(), network.values(pixels, ["flatten"])["flatten"].shape
        ([[0.0, 1.0]], torch.Size([1, 4]))
    """

    def __init__(self, content: bytes) -> None:
        super().__init__()
        graph = OnnxGraph(content)
        weights, nodes = graph.weights, graph.leading_to([LOGITS])
        steps = [node.op_type for node in nodes if node.op_type not in _OPERATORS]
        if steps or not nodes:
            raise ModelFileError(
                "a model whose answers have gradients",
                f"its operator {steps[0]} has none" if steps else "it has no logits",
                "Look at its occlusion map, which needs none.",
            )
        self._steps = nn.ModuleList(_Step(node, weights) for node in nodes)
        self._wiring = [
            ([name for name in node.input if name and name not in weights], node.output[0])
            for node in nodes
        ]
        self.eval()
        self.requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits before calibration, ``float32[N, K]``.

        Args:
            pixels: ``float32[N, H, W, C]``, 0 to 255.
        """
        return self.values(pixels, [LOGITS])[LOGITS]

    def values(self, pixels: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what layers put out for some images.

        Args:
            pixels: ``float32[N, H, W, C]``, 0 to 255.
            names: Names of layers that lead to the logits.

        Raises:
            KeyError: There is no such layer.
        """
        found: dict[str, Tensor] = {IMAGES: pixels}
        for step, (inputs, output) in zip(self._steps, self._wiring, strict=True):
            found[output] = step(*(found[name] for name in inputs))
        return {name: found[name] for name in names}

    def layer(self, name: str) -> nn.Module:
        """Return the module whose output is the layer's; a ``KeyError`` says that there is none."""
        for step, (_, output) in zip(self._steps, self._wiring, strict=True):
            if output == name:
                return step
        raise KeyError(name)


class _Step(nn.Module):
    """One operator with the weights that it takes.

    Args:
        node: From the file.
        weights: All of the file's by name.
    """

    def __init__(self, node: onnx.NodeProto, weights: dict[str, NDArray[Any]]) -> None:
        super().__init__()
        self._run = _OPERATORS[node.op_type]
        self._given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        self._held = [name in weights for name in node.input]
        for place, name in enumerate(node.input):
            if name in weights:
                value = torch.from_numpy(np.array(weights[name]))
                self.register_buffer(f"input{place}", value)

    def forward(self, *values: Tensor) -> Tensor:
        """Apply the operator."""
        taken = iter(values)
        inputs = [
            self.get_buffer(f"input{place}") if held else next(taken)
            for place, held in enumerate(self._held)
        ]
        return self._run(inputs, self._given)


_Given = dict[str, Any]


def _cast(inputs: list[Tensor], given: _Given) -> Tensor:
    return inputs[0].to(_TYPES.get(given["to"], torch.float32))


def _conv(inputs: list[Tensor], given: _Given) -> Tensor:
    maps, weight, *bias = inputs
    return functional.conv2d(
        _padded(maps, given),
        weight,
        bias[0] if bias else None,
        stride=given.get("strides", (1, 1)),
        dilation=given.get("dilations", (1, 1)),
        groups=given.get("group", 1),
    )


def _padded(maps: Tensor, given: _Given, value: float = 0.0) -> Tensor:
    top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
    if not any((top, left, bottom, right)):
        return maps
    return functional.pad(maps, (left, right, top, bottom), value=value)


def _max_pool(inputs: list[Tensor], given: _Given) -> Tensor:
    return functional.max_pool2d(
        _padded(inputs[0], given, -torch.inf),
        given["kernel_shape"],
        stride=given.get("strides", (1, 1)),
        dilation=given.get("dilations", (1, 1)),
        ceil_mode=bool(given.get("ceil_mode", 0)),
    )


def _batch_norm(inputs: list[Tensor], given: _Given) -> Tensor:
    maps, weight, bias, mean, variance = inputs
    epsilon = given.get("epsilon", 1e-5)
    return functional.batch_norm(maps, mean, variance, weight, bias, eps=epsilon)


def _gemm(inputs: list[Tensor], given: _Given) -> Tensor:
    left, right, *bias = inputs
    left = left.T if given.get("transA", 0) else left
    right = right.T if given.get("transB", 0) else right
    product: Tensor = given.get("alpha", 1.0) * (left @ right)
    return torch.add(product, bias[0], alpha=given.get("beta", 1.0)) if bias else product


def _average_pool(inputs: list[Tensor], given: _Given) -> Tensor:
    top, left, *_ = given.get("pads", (0, 0, 0, 0))
    return functional.avg_pool2d(
        inputs[0],
        given["kernel_shape"],
        stride=given.get("strides", (1, 1)),
        padding=(top, left),
        ceil_mode=bool(given.get("ceil_mode", 0)),
        count_include_pad=bool(given.get("count_include_pad", 0)),
    )


def _layer_norm(inputs: list[Tensor], given: _Given) -> Tensor:
    values, weight, *bias = inputs
    epsilon = given.get("epsilon", 1e-5)
    shift = bias[0] if bias else None
    return functional.layer_norm(values, weight.shape, weight, shift, eps=epsilon)


def _instance_norm(inputs: list[Tensor], given: _Given) -> Tensor:
    values, weight, bias = inputs
    return functional.instance_norm(
        values, weight=weight, bias=bias, eps=given.get("epsilon", 1e-5)
    )


def _by_row(operator: Operator) -> Callable[[list[Tensor], _Given], Tensor]:
    """Return an operator that a row of the table is all about."""
    layer = getattr(nn, operator.layer)

    def run(inputs: list[Tensor], given: _Given) -> Tensor:
        options = {
            own: _text(given[key]) for key, own in operator.attributes.items() if key in given
        }
        result: Tensor = layer(**options)(inputs[0])
        return result

    return run


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _transpose(inputs: list[Tensor], given: _Given) -> Tensor:
    return inputs[0].permute(given["perm"])


def _flatten(inputs: list[Tensor], given: _Given) -> Tensor:
    return inputs[0].flatten(given.get("axis", 1))


def _pad(inputs: list[Tensor], _: _Given) -> Tensor:
    pads = inputs[1].tolist()
    before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    pairs = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    return functional.pad(inputs[0], pairs)


def _reshape(inputs: list[Tensor], _: _Given) -> Tensor:
    values, wanted = inputs[0], inputs[1].tolist()
    return values.reshape([values.shape[i] if n == 0 else n for i, n in enumerate(wanted)])


def _reduced(how: Callable[..., Tensor]) -> Callable[[list[Tensor], _Given], Tensor]:
    """Return an operator that joins the values along the axes of its second input."""

    def reduce(inputs: list[Tensor], given: _Given) -> Tensor:
        axes = tuple(inputs[1].tolist())
        return how(inputs[0], dim=axes, keepdim=bool(given.get("keepdims", 1)))

    return reduce


def _plain(how: Callable[..., Tensor]) -> Callable[[list[Tensor], _Given], Tensor]:
    """Return an operator without attributes."""
    return lambda inputs, _: how(*inputs)


def _sum_of_squares(values: Tensor, *, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return values.square().sum(dim=dim, keepdim=keepdim)


# What `opsin.training.torch_to_onnx` and the smooth models of `opsin.classical` are written in.
_OPERATORS: Final[dict[str, Callable[[list[Tensor], _Given], Tensor]]] = {
    **{name: _by_row(row) for name, row in OPERATORS.items() if row.layer},
    "Add": _plain(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _plain(torch.clamp),
    "Conv": _conv,
    "Div": _plain(torch.div),
    "Exp": _plain(torch.exp),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _plain(lambda maps: maps.mean(dim=(2, 3), keepdim=True)),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": _plain(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _plain(torch.mul),
    "Pad": _pad,
    "ReduceMax": _reduced(torch.amax),
    "ReduceSum": _reduced(torch.sum),
    "ReduceSumSquare": _reduced(_sum_of_squares),
    "Reshape": _reshape,
    "Shape": _plain(lambda values: torch.tensor(values.shape)),
    "Sub": _plain(torch.sub),
    "Transpose": _transpose,
}
