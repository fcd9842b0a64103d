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
    """An ONNX operator.

    Args:
        name: As the standard has it (https://onnx.ai/onnx/operators/).
        layer: Name of the class in ``torch.nn`` that is this one operator without weights; ``""``
            for what has a function of its own.
        attributes: The operator's attributes by the names that the layer gives them.
        sees: What a place of its output depends on: the same ``place`` of its inputs, a ``window``
            around it, or ``all`` of them.
        weighted: Whether its second input holds a network's weights.
        quantised: Whether ONNX Runtime has a kernel for integers that `to_int8` uses.
    """

    name: str
    layer: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    sees: Literal["place", "window", "all"] = "place"
    weighted: bool = False
    quantised: bool = False


_ROWS: Final = (
    Operator("Add", quantised=True),
    Operator("AveragePool", sees="window"),
    Operator("BatchNormalization"),
    Operator("Cast"),
    Operator("Celu", "CELU", {"alpha": "alpha"}),
    Operator("Clip"),
    Operator("Conv", sees="window", weighted=True, quantised=True),
    Operator("DequantizeLinear"),
    Operator("Div"),
    Operator("Elu", "ELU", {"alpha": "alpha"}),
    Operator("Exp", sees="all"),
    Operator("Flatten", sees="all"),
    Operator("Gelu", "GELU", {"approximate": "approximate"}),
    Operator("Gemm", sees="all", weighted=True, quantised=True),
    Operator("GlobalAveragePool", sees="all"),
    Operator("HardSwish", "Hardswish"),
    Operator("Identity", "Identity"),
    Operator("InstanceNormalization", sees="all"),
    Operator("LayerNormalization", sees="all"),
    Operator("LeakyRelu", "LeakyReLU", {"alpha": "negative_slope"}),
    Operator("MatMul", sees="all"),
    Operator("MaxPool", sees="window", quantised=True),
    Operator("Mish", "Mish"),
    Operator("Mul"),
    Operator("Pad"),
    Operator("QuantizeLinear"),
    Operator("ReduceMax", sees="all"),
    Operator("ReduceSum"),
    Operator("ReduceSumSquare", sees="all"),
    Operator("Relu", "ReLU", quantised=True),
    Operator("Reshape", sees="all"),
    Operator("Selu", "SELU"),
    Operator("Shape", sees="all"),
    Operator("Sigmoid", "Sigmoid"),
    Operator("Sub"),
    Operator("Tanh", "Tanh"),
    Operator("Transpose"),
)
#: The operators by name.
OPERATORS: Final = {row.name: row for row in _ROWS}
#: Names of those that hold a network's weights.
WEIGHTED: Final = frozenset(row.name for row in _ROWS if row.weighted)

#: What a layer is drawn as.
Family = Literal["convolution", "dense", "norm", "pooling", "activation", "sum", "other"]


@dataclass(frozen=True)
class LayerTraits:
    """What is known of a layer from what it computes.

    Args:
        family: What it is drawn as.
        passes_on: Whether it puts out the numbers that it is given, in any shape.
        scales_pixels: Whether it is a first layer without weights: it scales the pixels, or their
            means.
        smooth: Whether it is an activation that comes near 0 and hardly ever meets it.
    """

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
    """Return what is known of layers that compute this.

    Example:
        >>> traits_of(LayerOp.FLATTEN).passes_on, traits_of(LayerOp.OTHER).family
        (True, 'other')
    """
    return _LAYERS.get(op, LayerTraits())
