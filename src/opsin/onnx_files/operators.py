"""The operators that a classifier.onnx is written in, and the layers made of them, one a row.

What needs more than names to be written or computed has a function beside the rows:
`opsin.training.torch_to_onnx` writes layers, `opsin.models.onnx_network` computes operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from opsin.core.metadata import LayerOp


@dataclass(frozen=True)
class Operator:
    """An ONNX operator."""

    name: str
    layer: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    sees: Literal["place", "window", "all"] = "place"
    weighted: bool = False
    learnt: tuple[int, ...] = ()
    quantised: bool = False


_ROWS: Final = (
    Operator("Abs"),
    Operator("Add", quantised=True, learnt=(0, 1)),
    Operator("And"),
    Operator("AveragePool", sees="window"),
    Operator("BatchNormalization", learnt=(1, 2)),
    Operator("Cast"),
    Operator("Ceil"),
    Operator("Celu", "CELU", {"alpha": "alpha"}),
    Operator("Clip", quantised=True),
    Operator("Concat", sees="all", learnt=(0, 1)),
    Operator("ConstantOfShape", sees="all"),
    Operator("Conv", sees="window", weighted=True, quantised=True, learnt=(1, 2)),
    Operator("Cos"),
    Operator("DepthToSpace", sees="all"),
    Operator("DequantizeLinear"),
    Operator("Div"),
    Operator("Dropout"),
    Operator("Einsum", sees="all", learnt=(0, 1)),
    Operator("Elu", "ELU", {"alpha": "alpha"}),
    Operator("Equal"),
    Operator("Erf"),
    Operator("Exp", sees="all"),
    Operator("Expand", sees="all", learnt=(0,)),
    Operator("Flatten", sees="all"),
    Operator("Floor"),
    Operator("Gather", sees="all"),
    Operator("Gelu", "GELU", {"approximate": "approximate"}),
    Operator("Gemm", sees="all", weighted=True, quantised=True, learnt=(1, 2)),
    Operator("GlobalAveragePool", sees="all"),
    Operator("GlobalMaxPool", sees="all"),
    Operator("Greater"),
    Operator("GreaterOrEqual"),
    Operator("GroupNormalization", sees="all", learnt=(1, 2)),
    Operator("HardSigmoid"),
    Operator("HardSwish", "Hardswish"),
    Operator("Identity", "Identity"),
    Operator("InstanceNormalization", sees="all", learnt=(1, 2)),
    Operator("LayerNormalization", sees="all", learnt=(1, 2)),
    Operator("LeakyRelu", "LeakyReLU", {"alpha": "negative_slope"}),
    Operator("Less"),
    Operator("LessOrEqual"),
    Operator("Log"),
    Operator("LogSoftmax", sees="all"),
    Operator("LpNormalization", sees="all"),
    Operator("MatMul", sees="all", learnt=(0, 1)),
    Operator("Max"),
    Operator("MaxPool", sees="window", quantised=True),
    Operator("Mean"),
    Operator("Min"),
    Operator("Mish", "Mish"),
    Operator("Mod"),
    Operator("Mul", learnt=(0, 1)),
    Operator("Neg"),
    Operator("Not"),
    Operator("Or"),
    Operator("PRelu", learnt=(1,)),
    Operator("Pad"),
    Operator("Pow"),
    Operator("QuantizeLinear"),
    Operator("Range", sees="all"),
    Operator("Reciprocal"),
    Operator("ReduceL2", sees="all"),
    Operator("ReduceMax", sees="all"),
    Operator("ReduceMean", sees="all"),
    Operator("ReduceMin", sees="all"),
    Operator("ReduceProd", sees="all"),
    Operator("ReduceSum"),
    Operator("ReduceSumSquare", sees="all"),
    Operator("Relu", "ReLU", quantised=True),
    Operator("Reshape", sees="all"),
    Operator("Resize", sees="all"),
    Operator("Selu", "SELU"),
    Operator("Shape", sees="all"),
    Operator("Sigmoid", "Sigmoid"),
    Operator("Sin"),
    Operator("Size", sees="all"),
    Operator("Slice", sees="all"),
    Operator("Softmax", sees="all"),
    Operator("Softplus"),
    Operator("SpaceToDepth", sees="all"),
    Operator("Split", sees="all"),
    Operator("Sqrt"),
    Operator("Squeeze", sees="all"),
    Operator("Sub"),
    Operator("Sum", learnt=(0, 1)),
    Operator("Tanh", "Tanh"),
    Operator("Tile", sees="all", learnt=(0,)),
    Operator("Transpose"),
    Operator("Unsqueeze", sees="all"),
    Operator("Where"),
)
#: The operators by name.
OPERATORS: Final = {row.name: row for row in _ROWS}
#: Names of those that hold a network's weights.
WEIGHTED: Final = frozenset(row.name for row in _ROWS if row.weighted)

#: What a layer is drawn as.
Family = Literal["convolution", "dense", "norm", "pooling", "activation", "sum", "other"]


@dataclass(frozen=True)
class LayerTraits:
    """What is known of a layer from what it computes."""

    family: Family = "other"
    passes_on: bool = False
    scales_pixels: bool = False
    smooth: bool = False

    @property
    def has_units(self) -> bool:
        """Whether its numbers are units of its own, not another layer's."""
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
    """Return what is known of layers that compute this."""
    return _LAYERS.get(op, LayerTraits())
