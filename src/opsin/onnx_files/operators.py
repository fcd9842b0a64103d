"""The operators that a classifier.onnx is written in, and the layers made of them, one a row.

What needs more than names to be written or computed has a function beside the rows:
`opsin.training.torch_to_onnx` writes layers, `opsin.models.onnx_network` computes operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from opsin.core.metadata import LayerOp


@dataclass(frozen=True)
class Operator:
    """An ONNX operator."""

    name: str
    layer: str = ""  # PyTorch's, if one computes just this
    attributes: Mapping[str, str] = field(default_factory=dict)  # and what it calls its options
    sees: Literal["place", "window", "all"] = "place"  # what a place of its output depends on
    weighted: bool = False  # whether its second input is a layer's weights
    learnt: tuple[int, ...] = ()  # inputs that training may change
    quantised: bool = False  # whether ONNX Runtime computes it in integers


# Operators that compute each place by itself.
_PLACE: Final = (
    "Abs", "Cast", "DequantizeLinear", "Div", "Dropout", "Equal", "Erf", "Greater",
    "GreaterOrEqual", "HardSigmoid", "Less", "Log", "Max", "Mean", "Min", "Neg", "Pad", "Pow",
    "QuantizeLinear", "ReduceSum", "Softplus", "Sqrt", "Sub", "Transpose", "Where",
)  # fmt: skip
_ROWS: Final = (
    Operator("Add", quantised=True, learnt=(0, 1)),
    Operator("AveragePool", sees="window"),
    Operator("BatchNormalization", learnt=(1, 2)),
    Operator("Celu", "CELU", {"alpha": "alpha"}),
    Operator("Clip", quantised=True),
    Operator("Concat", sees="all", learnt=(0, 1)),
    Operator("Conv", sees="window", weighted=True, quantised=True, learnt=(1, 2)),
    Operator("Elu", "ELU", {"alpha": "alpha"}),
    Operator("Expand", sees="all", learnt=(0,)),
    Operator("Gelu", "GELU", {"approximate": "approximate"}),
    Operator("Gemm", sees="all", weighted=True, quantised=True, learnt=(1, 2)),
    Operator("HardSwish", "Hardswish"),
    Operator("Identity", "Identity"),
    Operator("InstanceNormalization", sees="all", learnt=(1, 2)),
    Operator("LayerNormalization", sees="all", learnt=(1, 2)),
    Operator("LeakyRelu", "LeakyReLU", {"alpha": "negative_slope"}),
    Operator("MatMul", sees="all", learnt=(0, 1)),
    Operator("MaxPool", sees="window", quantised=True),
    Operator("Mish", "Mish"),
    Operator("Mul", learnt=(0, 1)),
    Operator("PRelu", learnt=(1,)),
    Operator("Relu", "ReLU", quantised=True),
    Operator("Selu", "SELU"),
    Operator("Sigmoid", "Sigmoid"),
    Operator("Sum", learnt=(0, 1)),
    Operator("Tanh", "Tanh"),
    *map(Operator, _PLACE),
)
#: The operators by name; others mix places and have nothing to train.
OPERATORS: Final = {row.name: row for row in _ROWS}
#: Names of those that hold a network's weights.
WEIGHTED: Final = frozenset(row.name for row in _ROWS if row.weighted)


def padding(attrs: Mapping[str, Any], sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """The padding of a window before each axis of maps, then after each."""
    automatic, axes = attrs.get("auto_pad", "NOTSET"), len(kernel)
    if automatic in ("NOTSET", "VALID"):
        return list(attrs.get("pads", [0] * 2 * axes))
    strides, dilations = (attrs.get(name, [1] * axes) for name in ("strides", "dilations"))
    total = [
        max(0, (-(-size // stride) - 1) * stride + (side - 1) * apart + 1 - size)
        for size, side, stride, apart in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    less, more = [pad // 2 for pad in total], [pad - pad // 2 for pad in total]
    return less + more if automatic == "SAME_UPPER" else more + less


#: Kinds of layers in drawings.
Family = Literal["convolution", "dense", "norm", "pooling", "activation", "sum", "other"]


@dataclass(frozen=True)
class LayerTraits:
    """Properties of a kind of layer."""

    family: Family = "other"
    passes_on: bool = False
    scales_pixels: bool = False
    smooth: bool = False

    @property
    def has_units(self) -> bool:
        """Whether its numbers are its own units, not another layer's."""
        return not (self.passes_on or self.scales_pixels)


_LAYERS: Final = {
    LayerOp.ADD: LayerTraits("sum"),
    LayerOp.BATCH_NORM: LayerTraits("norm"),
    LayerOp.CONV: LayerTraits("convolution"),
    LayerOp.DENSE: LayerTraits("dense"),
    LayerOp.DROPOUT: LayerTraits(passes_on=True),
    LayerOp.FLATTEN: LayerTraits(passes_on=True),
    LayerOp.GELU: LayerTraits("activation", smooth=True),
    LayerOp.IDENTITY: LayerTraits(passes_on=True),
    LayerOp.MAXIMUM: LayerTraits("pooling"),
    LayerOp.MAX_POOL: LayerTraits("pooling"),
    LayerOp.MEAN: LayerTraits(scales_pixels=True),
    LayerOp.NORMALISE: LayerTraits(scales_pixels=True),
    LayerOp.PCA: LayerTraits("dense"),
    LayerOp.RELU: LayerTraits("activation"),
    LayerOp.SCALE: LayerTraits(scales_pixels=True),
    LayerOp.SIGMOID: LayerTraits(smooth=True),
    LayerOp.SILU: LayerTraits("activation", smooth=True),
    LayerOp.TANH: LayerTraits("activation", smooth=True),
}


def traits_of(op: LayerOp) -> LayerTraits:
    """Return the properties of a kind of layer."""
    return _LAYERS.get(op, LayerTraits())
