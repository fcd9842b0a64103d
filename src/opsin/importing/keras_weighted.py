"""Dense layers, convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor, LayerCall, Writer
from opsin.importing.keras_numbers import activated


def _dense(call: LayerCall) -> KerasTensor:
    value, units = call.value, call.count("units")
    inputs, bias = value.shape[-1], call.flag("use_bias", True)
    kernel, *rest = call.take((inputs, units), (units,) if bias else None)
    call.words = LayerOp.DENSE
    call.multiply_adds = math.prod(value.shape[:-1]) * inputs * units
    plain = call.to.plain(value)
    if len(value.shape) == 1:
        names = [call.weight("weight", kernel.T), *(call.weight("bias", shift) for shift in rest)]
        made = call.apply("Gemm", [plain, *names], "dense", transB=1)
    else:
        made = call.apply("MatMul", [plain, call.weight("weight", kernel)], "dense")
        for shift in rest:
            made = call.apply("Add", [made, call.weight("bias", shift)], "biased")
    return activated(call, call.to.of_plain((*value.shape[:-1], units), made))


def _window(
    call: LayerCall, kernel: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return a window's padding before and after the axes, and the sizes of its output."""
    axes = list(zip(call.to.sizes(call.value)[:2], kernel, strides, strict=True))
    if call.text("padding", "valid", ("valid", "same")) == "same":
        out = [math.ceil(size / step) for size, _, step in axes]
        # As TensorFlow pads: what is odd goes behind.
        total = [max((count - 1) * step + width - size, 0)
                 for count, (size, width, step) in zip(out, axes, strict=True)]  # fmt: skip
        return [pad // 2 for pad in total] + [pad - pad // 2 for pad in total], out
    out = [(size - width) // step + 1 for size, width, step in axes]
    if min(out) < 1:
        raise call.refuse("has a window that is larger than what it looks at")
    return [0] * 4, out


def _convolution(call: LayerCall, kind: Literal["", "depthwise", "separable"] = "") -> KerasTensor:
    channels = call.to.sizes(call.value)[2]
    kernel, strides, holes = (
        call.sizes(name, 1) for name in ("kernel_size", "strides", "dilation_rate")
    )
    groups = channels if kind else call.count("groups", 1)
    multiplier = call.count("depth_multiplier", 1) if kind else 0
    filters = channels * multiplier if kind == "depthwise" else call.count("filters")
    if channels % groups or (filters % groups and not kind):
        raise call.refuse("has groups that its channels cannot be divided into")
    first, *rest = call.take(
        (*kernel, channels, multiplier) if kind else (*kernel, channels // groups, filters),
        (1, 1, channels * multiplier, filters) if kind == "separable" else None,
        (filters,) if call.flag("use_bias", True) else None,
    )
    if kind:
        first = first.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, *kernel)
    else:
        first = first.transpose(3, 2, 0, 1)
    step = f", stride {strides[0]}" if max(strides) > 1 else ""
    shape = f"{'×'.join(map(str, kernel))} {call.options.get('padding')}{step}"
    call.words = f"{LayerOp.CONV} {shape} {kind}".rstrip()
    spread = [(size - 1) * hole + 1 for size, hole in zip(kernel, holes, strict=True)]
    pads, out = _window(call, spread, strides)

    def convolved(value: str, weights: NDArray[Any], bias: list[Any], part: str, **how: Any) -> str:
        names = [call.weight(f"{part}weight", weights), *(call.weight("bias", b) for b in bias)]
        call.multiply_adds += math.prod(out) * int(weights.size)
        shape = list(weights.shape[2:])
        return call.apply("Conv", [value, *names], f"{part}conv", kernel_shape=shape, **how)

    how = {"strides": list(strides), "dilations": list(holes), "group": groups, "pads": pads}
    if kind == "separable":
        pointwise, *rest = rest
        made = convolved(call.value.name, first, [], "depthwise.", **how)
        made = convolved(
            made, pointwise.transpose(3, 2, 0, 1), rest, "", strides=[1, 1], dilations=[1, 1],
            group=1, pads=[0] * 4,
        )  # fmt: skip
    else:
        made = convolved(call.value.name, first, rest, "", **how)
    return activated(call, call.to.tensor((*out, filters), made))


def _pooling(call: LayerCall, kind: str) -> KerasTensor:
    name, channels = call.value.name, call.to.sizes(call.value)[2]
    kernel = call.sizes("pool_size", 2)
    strides = call.sizes("strides", kernel)
    pads, out = _window(call, kernel, strides)
    further, word = {"count_include_pad": 0}, LayerOp.MEAN
    if kind == "MaxPool":
        further, word = {}, LayerOp.MAX_POOL
        for node in call.to.nodes:  # zeros around maps stay zeros for the maximum of a window
            if node.op_type == "Pad" and name in node.output and len(node.input) == 2:
                node.input.append(call.constant("nearly_zero", 1e-30))
    call.words = f"{word} {'×'.join(map(str, kernel))}"
    made = call.apply(
        kind, [name], "pool", kernel_shape=list(kernel), strides=list(strides), pads=pads, **further
    )
    return call.to.tensor((*out, channels), made)


def _global_pooling(call: LayerCall, kind: str) -> KerasTensor:
    channels, keep = call.to.sizes(call.value)[2], call.flag("keepdims", False)
    over = call.constant("axes", [2, 3], np.int64)
    call.words = f"{LayerOp.MAXIMUM if kind == 'ReduceMax' else LayerOp.MEAN} over places"
    made = call.apply(kind, [call.value.name, over], "pool", keepdims=int(keep))
    return call.to.tensor((1, 1, channels) if keep else (channels,), made)


WEIGHTED: Final[dict[str, Writer]] = {
    "Dense": _dense,
    "Conv2D": _convolution,
    "DepthwiseConv2D": lambda call: _convolution(call, "depthwise"),
    "SeparableConv2D": lambda call: _convolution(call, "separable"),
    "MaxPooling2D": lambda call: _pooling(call, "MaxPool"),
    "AveragePooling2D": lambda call: _pooling(call, "AveragePool"),
    "GlobalMaxPooling2D": lambda call: _global_pooling(call, "ReduceMax"),
    "GlobalAveragePooling2D": lambda call: _global_pooling(call, "ReduceMean"),
}
