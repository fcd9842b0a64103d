"""Dense layers, convolutions, pooling and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor, LayerCall, Writer
from opsin.importing.keras_layers.numbers import activated

Sizes = Sequence[int]


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
    call: LayerCall, sizes: Sizes, kernel: Sizes, strides: Sizes
) -> tuple[list[int], list[int]]:
    """Return a window's padding before and after the axes, and the sizes of its output."""
    if call.options.get("padding") == "causal" and len(sizes) == 1:
        return [kernel[0] - 1, 0], [math.ceil(sizes[0] / strides[0])]
    axes = list(zip(sizes, kernel, strides, strict=True))
    if call.text("padding", "valid", ("valid", "same")) == "same":
        out = [math.ceil(size / step) for size, _, step in axes]
        # As TensorFlow pads: what is odd goes behind.
        total = [max((count - 1) * step + width - size, 0)
                 for count, (size, width, step) in zip(out, axes, strict=True)]  # fmt: skip
        return [pad // 2 for pad in total] + [pad - pad // 2 for pad in total], out
    out = [(size - width) // step + 1 for size, width, step in axes]
    if min(out) < 1:
        raise call.refuse("has a window that is larger than what it looks at")
    return [0] * (2 * len(sizes)), out


def _axes_first(call: LayerCall, axes: int) -> tuple[str, tuple[int, ...], int]:
    value = call.value
    if axes == 2:
        height, width, channels = call.to.sizes(value)
        return value.name, (height, width), channels
    if len(value.shape) != 2:
        raise call.refuse("is not given a row of places")
    turned = call.apply("Transpose", [call.to.plain(value)], "turned", perm=[0, 2, 1])
    return turned, value.shape[:1], value.shape[1]


def _value(call: LayerCall, made: str, sizes: Sizes, channels: int) -> KerasTensor:
    if len(sizes) == 1:
        made = call.apply("Transpose", [made], "turned", perm=[0, 2, 1])
    return call.to.tensor((*sizes, channels), made)


def _convolution(
    call: LayerCall, axes: int = 2, kind: Literal["", "depthwise", "separable"] = ""
) -> KerasTensor:
    taken, sizes, channels = _axes_first(call, axes)
    kernel, strides, holes = (
        call.sizes(name, 1, axes) for name in ("kernel_size", "strides", "dilation_rate")
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
        first = first.transpose(axes + 1, axes, *range(axes))
    step = f", stride {strides[0]}" if max(strides) > 1 else ""
    shape = f"{'×'.join(map(str, kernel))} {call.options.get('padding')}{step}"
    call.words = f"{LayerOp.CONV} {shape} {kind}".rstrip()
    spread = [(size - 1) * hole + 1 for size, hole in zip(kernel, holes, strict=True)]
    pads, out = _window(call, sizes, spread, strides)

    def convolved(value: str, weights: NDArray[Any], bias: list[Any], part: str, **how: Any) -> str:
        names = [call.weight(f"{part}weight", weights), *(call.weight("bias", b) for b in bias)]
        call.multiply_adds += math.prod(out) * int(weights.size)
        shape = list(weights.shape[2:])
        return call.apply("Conv", [value, *names], f"{part}conv", kernel_shape=shape, **how)

    how = {"strides": list(strides), "dilations": list(holes), "group": groups, "pads": pads}
    if kind == "separable":
        pointwise, *rest = rest
        made = convolved(taken, first, [], "depthwise.", **how)
        made = convolved(
            made, pointwise.transpose(3, 2, 0, 1), rest, "", strides=[1, 1], dilations=[1, 1],
            group=1, pads=[0] * 4,
        )  # fmt: skip
    else:
        made = convolved(taken, first, rest, "", **how)
    return activated(call, _value(call, made, out, filters))


def _pooling(call: LayerCall, axes: int, kind: str) -> KerasTensor:
    taken, sizes, channels = _axes_first(call, axes)
    kernel = call.sizes("pool_size", 2, axes)
    strides = call.sizes("strides", kernel, axes)
    pads, out = _window(call, sizes, kernel, strides)
    further, word = {"count_include_pad": 0}, LayerOp.MEAN
    if kind == "MaxPool":
        further, word = {}, LayerOp.MAX_POOL
        for node in call.to.nodes:  # zeros around maps stay zeros for the maximum of a window
            if node.op_type == "Pad" and taken in node.output and len(node.input) == 2:
                node.input.append(call.constant("nearly_zero", 1e-30))
    call.words = f"{word} {'×'.join(map(str, kernel))}"
    made = call.apply(
        kind, [taken], "pool", kernel_shape=list(kernel), strides=list(strides), pads=pads,
        **further,
    )  # fmt: skip
    return _value(call, made, out, channels)


def _global_pooling(call: LayerCall, axes: int, kind: str) -> KerasTensor:
    taken, _, channels = _axes_first(call, axes)
    keep = call.flag("keepdims", False)
    over = call.constant("axes", list(range(2, 2 + axes)), np.int64)
    call.words = f"{LayerOp.MAXIMUM if kind == 'ReduceMax' else LayerOp.MEAN} over places"
    made = call.apply(kind, [taken, over], "pool", keepdims=int(keep))
    return _value(call, made, (1,) * axes, channels) if keep else call.to.tensor((channels,), made)


def _attention(call: LayerCall) -> KerasTensor:
    query, value, key = _attended(call)
    heads, size = call.count("num_heads"), call.count("key_dim")
    wide = size if call.options.get("value_dim") is None else call.count("value_dim")
    out = query.shape[-1]
    if (shape := call.options.get("output_shape")) is not None:
        out = shape[0] if isinstance(shape, list) else call.count("output_shape")
    bias = call.flag("use_bias", True)
    parts = (("query", query, size), ("key", key, size), ("value", value, wide))
    wanted: list[tuple[int, ...] | None] = []
    for _, tensor, width in parts:
        wanted += [(tensor.shape[-1], heads, width), (heads, width) if bias else None]
    arrays = call.take(*wanted, (heads, wide, out), (out,) if bias else None)
    weights, biases = (arrays[::2], arrays[1::2]) if bias else (arrays, [None] * 4)
    call.words = f"Attention, {heads} heads"

    def projected(rows: str, number: int, name: str, inputs: int) -> str:
        kernel = call.weight(f"{name}.weight", weights[number].reshape(inputs, -1))
        made, shift = call.apply("MatMul", [rows, kernel], name), biases[number]
        if shift is None:
            return made
        return call.apply("Add", [made, call.weight(f"{name}.bias", shift.reshape(-1))], name)

    in_heads = []
    for number, (name, tensor, width) in enumerate(parts):
        made = projected(call.to.plain(tensor), number, name, tensor.shape[-1])
        into = call.constant(f"{name}.heads", [0, tensor.shape[0], heads, width], np.int64)
        made = call.apply("Reshape", [made, into], f"{name}.heads")
        in_heads.append(call.apply("Transpose", [made], f"{name}.heads", perm=[0, 2, 1, 3]))
        call.multiply_adds += tensor.shape[0] * int(weights[number].size)
    turned = call.apply("Transpose", [in_heads[1]], "key.turned", perm=[0, 1, 3, 2])
    scores = call.apply("MatMul", [in_heads[0], turned], "scores")
    scores = call.apply("Mul", [scores, call.constant("scale", 1 / math.sqrt(size))], "scores")
    shares = call.apply("Softmax", [scores], "shares", axis=-1)
    seen = call.apply("MatMul", [shares, in_heads[2]], "seen")
    rows = call.apply("Transpose", [seen], "rows", perm=[0, 2, 1, 3])
    into = call.constant("joined", [0, query.shape[0], heads * wide], np.int64)
    rows = call.apply("Reshape", [rows, into], "joined")
    call.multiply_adds += query.shape[0] * key.shape[0] * heads * (size + wide)
    call.multiply_adds += query.shape[0] * int(weights[3].size)
    return call.to.tensor((query.shape[0], out), projected(rows, 3, "output", heads * wide))


def _attended(call: LayerCall) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    masks = ("query_mask", "value_mask", "key_mask", "attention_mask")
    if any(call.named.get(name) is not None for name in masks):
        raise call.refuse("is given a mask")
    if call.named.get("use_causal_mask") or call.options.get("use_gate"):
        raise call.refuse("attends in a way that is not known here")
    values, tensors = call.values, {}
    for name in ("query", "value", "key"):
        if isinstance(named := call.named.get(name), KerasTensor):
            tensors[name] = named
        elif values:
            tensors[name] = values.pop(0)
    if not {"query", "value"} <= tensors.keys():
        raise call.refuse("is not given query and value")
    if any(len(tensor.shape) != 2 for tensor in tensors.values()):
        raise call.refuse("is not given rows of places")
    return tensors["query"], tensors["value"], tensors.get("key", tensors["value"])


LAYERS: Final[dict[str, Writer]] = {
    "Dense": _dense,
    "Conv1D": lambda call: _convolution(call, 1),
    "Conv2D": _convolution,
    "DepthwiseConv2D": lambda call: _convolution(call, kind="depthwise"),
    "SeparableConv2D": lambda call: _convolution(call, kind="separable"),
    "MaxPooling1D": lambda call: _pooling(call, 1, "MaxPool"),
    "MaxPooling2D": lambda call: _pooling(call, 2, "MaxPool"),
    "AveragePooling1D": lambda call: _pooling(call, 1, "AveragePool"),
    "AveragePooling2D": lambda call: _pooling(call, 2, "AveragePool"),
    "GlobalMaxPooling1D": lambda call: _global_pooling(call, 1, "ReduceMax"),
    "GlobalMaxPooling2D": lambda call: _global_pooling(call, 2, "ReduceMax"),
    "GlobalAveragePooling1D": lambda call: _global_pooling(call, 1, "ReduceMean"),
    "GlobalAveragePooling2D": lambda call: _global_pooling(call, 2, "ReduceMean"),
    "MultiHeadAttention": _attention,
}
