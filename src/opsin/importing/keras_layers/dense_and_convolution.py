"""Dense layers and convolutions."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor
from opsin.importing.keras_layers.activations import activated
from opsin.importing.keras_layers.layer_call import LayerCall, Writer


def _dense(call: LayerCall) -> KerasTensor:
    value, units = call.value, call.count("units")
    inputs = value.shape[-1]
    bias = call.flag("use_bias", True)
    kernel, *rest = call.take((inputs, units), (units,) if bias else None)
    call.words = LayerOp.DENSE
    call.multiply_adds = math.prod(value.shape[:-1]) * inputs * units
    plain = call.to.plain(value)
    if len(value.shape) == 1:
        held = [call.weight("weight", kernel.T), *(call.weight("bias", each) for each in rest)]
        made = call.apply("Gemm", [plain, *held], "dense", transB=1)
    else:
        made = call.apply("MatMul", [plain, call.weight("weight", kernel)], "dense")
        for each in rest:
            made = call.apply("Add", [made, call.weight("bias", each)], "biased")
    return activated(call, call.to.tensor((*value.shape[:-1], units), plain=made))


def same_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return what TensorFlow's padding "same" puts before and behind an axis."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def window(
    call: LayerCall, sizes: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[list[int], tuple[int, ...]]:
    """Return the padding of a window that moves, and the sizes of what it puts out."""
    if call.text("padding", "valid", ("valid", "same")) == "same":
        pads = [same_pads(*each) for each in zip(sizes, kernel, strides, strict=True)]
        out = [math.ceil(size / step) for size, step in zip(sizes, strides, strict=True)]
        return [before for before, _ in pads] + [behind for _, behind in pads], tuple(out)
    out = [(size - own) // step + 1 for size, own, step in zip(sizes, kernel, strides, strict=True)]
    if min(out) < 1:
        raise call.refuse("has a window that is larger than what it looks at")
    return [0] * (2 * len(sizes)), tuple(out)


def _shape_words(kernel: tuple[int, ...], strides: tuple[int, ...], padding: object) -> str:
    step = f", stride {strides[0]}" if max(strides) > 1 else ""
    return f"{'×'.join(map(str, kernel))} {padding}{step}"


def _axes_first(call: LayerCall, axes: int) -> tuple[str, tuple[int, ...], int]:
    """Return a value as the operators take it, its sizes and its channels."""
    value = call.value
    call.check_order()
    if axes == 2:
        height, width, channels = call.to.sizes(value)
        return call.to.maps(value), (height, width), channels
    if len(value.shape) != 2 or call.to.channels_first:
        raise call.refuse("is not given a row of places")
    turned = call.apply("Transpose", [call.to.plain(value)], "turned", perm=[0, 2, 1])
    return turned, value.shape[:1], value.shape[1]


def _value(call: LayerCall, made: str, sizes: tuple[int, ...], channels: int) -> KerasTensor:
    """Return what a convolution or a pooling puts out."""
    if len(sizes) == 2:
        return call.to.of_maps((sizes[0], sizes[1], channels), made)
    plain = call.apply("Transpose", [made], "turned", perm=[0, 2, 1])
    return call.to.tensor((*sizes, channels), plain=plain)


def _convolution(call: LayerCall, axes: int) -> KerasTensor:
    taken, sizes, channels = _axes_first(call, axes)
    kernel, strides = call.sizes("kernel_size", 1, axes), call.sizes("strides", 1, axes)
    holes, groups = call.sizes("dilation_rate", 1, axes), call.count("groups", 1)
    filters = call.count("filters")
    if channels % groups or filters % groups:
        raise call.refuse("has groups that its channels cannot be divided into")
    bias = call.flag("use_bias", True)
    weights, *rest = call.take((*kernel, channels // groups, filters), (filters,) if bias else None)
    call.words = f"{LayerOp.CONV} {_shape_words(kernel, strides, call.options.get('padding'))}"
    order = (axes + 1, axes, *range(axes))
    made, out = _convolved(
        call, taken, sizes, weights.transpose(order), rest, strides=strides, holes=holes,
        groups=groups,
    )  # fmt: skip
    return activated(call, _value(call, made, out, filters))


def _convolved(
    call: LayerCall,
    taken: str,
    sizes: tuple[int, ...],
    weights: Any,
    bias: list[Any],
    *,
    strides: tuple[int, ...],
    holes: tuple[int, ...],
    groups: int,
    part: str = "",
) -> tuple[str, tuple[int, ...]]:
    kernel = weights.shape[2:]
    spread = tuple((own - 1) * hole + 1 for own, hole in zip(kernel, holes, strict=True))
    if call.options.get("padding") == "causal":
        pads = [spread[0] - 1, 0]
        out: tuple[int, ...] = (math.ceil(sizes[0] / strides[0]),)
    else:
        pads, out = window(call, sizes, spread, strides)
    held = [call.weight(f"{part}weight", weights), *(call.weight("bias", each) for each in bias)]
    made = call.apply(
        "Conv", [taken, *held], f"{part}conv", kernel_shape=list(kernel), strides=list(strides),
        dilations=list(holes), group=groups, pads=pads,
    )  # fmt: skip
    call.multiply_adds += math.prod(out) * int(weights.size)
    return made, out


def _depthwise(call: LayerCall) -> KerasTensor:
    taken, sizes, channels = _axes_first(call, 2)
    kernel, strides = call.sizes("kernel_size", 1), call.sizes("strides", 1)
    each = call.count("depth_multiplier", 1)
    bias = call.flag("use_bias", True)
    weights, *rest = call.take((*kernel, channels, each), (channels * each,) if bias else None)
    shape = _shape_words(kernel, strides, call.options.get("padding"))
    call.words = f"{LayerOp.CONV} {shape} depthwise"
    made, out = _convolved(
        call, taken, sizes, _by_channel(weights), rest, strides=strides,
        holes=call.sizes("dilation_rate", 1), groups=channels,
    )  # fmt: skip
    return activated(call, _value(call, made, out, channels * each))


def _by_channel(weights: Any) -> Any:
    """Return the weights of a depthwise convolution as the operator takes them."""
    height, width, channels, each = weights.shape
    return weights.transpose(2, 3, 0, 1).reshape(channels * each, 1, height, width)


def _separable(call: LayerCall) -> KerasTensor:
    taken, sizes, channels = _axes_first(call, 2)
    kernel, strides = call.sizes("kernel_size", 1), call.sizes("strides", 1)
    each, filters = call.count("depth_multiplier", 1), call.count("filters")
    bias = call.flag("use_bias", True)
    depthwise, pointwise, *rest = call.take(
        (*kernel, channels, each), (1, 1, channels * each, filters), (filters,) if bias else None
    )
    shape = _shape_words(kernel, strides, call.options.get("padding"))
    call.words = f"{LayerOp.CONV} {shape} separable"
    made, out = _convolved(
        call, taken, sizes, _by_channel(depthwise), [], strides=strides,
        holes=call.sizes("dilation_rate", 1), groups=channels, part="depthwise.",
    )  # fmt: skip
    made, out = _convolved(
        call, made, out, pointwise.transpose(3, 2, 0, 1), rest, strides=(1, 1), holes=(1, 1),
        groups=1,
    )  # fmt: skip
    return activated(call, _value(call, made, out, filters))


def _transposed(call: LayerCall) -> KerasTensor:
    taken, sizes, channels = _axes_first(call, 2)
    kernel, strides = call.sizes("kernel_size", 1), call.sizes("strides", 1)
    holes, filters = call.sizes("dilation_rate", 1), call.count("filters")
    bias = call.flag("use_bias", True)
    weights, *rest = call.take((*kernel, filters, channels), (filters,) if bias else None)
    given = call.options.get("output_padding")
    further = None if given is None else [given] * 2 if isinstance(given, int) else list(given)
    same = call.text("padding", "valid", ("valid", "same")) == "same"
    spread = [(own - 1) * hole + 1 for own, hole in zip(kernel, holes, strict=True)]
    out, before, behind = [], [], []
    for axis in range(2):
        size, own, step = sizes[axis], spread[axis], strides[axis]
        whole = (size - 1) * step + own
        if further is not None:
            cut = 2 * (own // 2) if same else 0
            wanted = whole - cut + int(further[axis])
            first = own // 2 if same else 0
        else:
            wanted = size * step if same else size * step + max(own - step, 0)
            first = max(own - step, 0) // 2 if same else 0
        out.append(wanted)
        before.append(first)
        behind.append(whole - first - wanted)
    extra = [max(-each, 0) for each in behind]
    pads = [*before, *(max(each, 0) for each in behind)]
    if any(more >= step for more, step in zip(extra, strides, strict=True)):
        raise call.refuse("is padded in a way that is not known here")
    shape = _shape_words(kernel, strides, call.options.get("padding"))
    call.words = f"{LayerOp.CONV} {shape} transposed"
    held = [call.weight("weight", weights.transpose(3, 2, 0, 1)),
            *(call.weight("bias", each) for each in rest)]  # fmt: skip
    made = call.apply(
        "ConvTranspose", [taken, *held], "conv", kernel_shape=list(kernel), strides=list(strides),
        dilations=list(holes), pads=pads, output_padding=extra,
    )  # fmt: skip
    call.multiply_adds = math.prod(sizes) * int(weights.size)
    return activated(call, _value(call, made, tuple(out), filters))


def _pooling(call: LayerCall, axes: int, kind: str) -> KerasTensor:
    taken, sizes, channels = _axes_first(call, axes)
    kernel = call.sizes("pool_size", 2, axes)
    strides = call.sizes("strides", kernel, axes)
    pads, out = window(call, sizes, kernel, strides)
    if kind == "MaxPool":
        _keep_zeros(call, taken)
    word = LayerOp.MAX_POOL if kind == "MaxPool" else LayerOp.MEAN
    call.words = f"{word} {'×'.join(map(str, kernel))}"
    further = {} if kind == "MaxPool" else {"count_include_pad": 0}
    made = call.apply(
        kind, [taken], "pool", kernel_shape=list(kernel), strides=list(strides), pads=pads,
        **further,
    )  # fmt: skip
    return _value(call, made, out, channels)


def _keep_zeros(call: LayerCall, taken: str) -> None:
    """See that zeros around maps stay zeros for the maximum of a window."""
    for node in call.to.nodes:
        if node.op_type == "Pad" and taken in node.output and len(node.input) == 2:
            node.input.append(call.constant("nearly_zero", 1e-30))


def _global_pooling(call: LayerCall, axes: int, kind: str) -> KerasTensor:
    taken, _, channels = _axes_first(call, axes)
    keep = call.flag("keepdims", False)
    over = call.constant("axes", list(range(2, 2 + axes)), np.int64)
    word = LayerOp.MAXIMUM if kind == "ReduceMax" else LayerOp.MEAN
    call.words = f"{word} over places"
    made = call.apply(kind, [taken, over], "pool", keepdims=int(keep))
    if keep:
        return _value(call, made, (1,) * axes, channels)
    return call.to.tensor((channels,), plain=made)


LAYERS: Final[dict[str, Writer]] = {
    "Dense": _dense,
    "Conv1D": lambda call: _convolution(call, 1),
    "Conv2D": lambda call: _convolution(call, 2),
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Conv2DTranspose": _transposed,
    "MaxPooling1D": lambda call: _pooling(call, 1, "MaxPool"),
    "MaxPooling2D": lambda call: _pooling(call, 2, "MaxPool"),
    "AveragePooling1D": lambda call: _pooling(call, 1, "AveragePool"),
    "AveragePooling2D": lambda call: _pooling(call, 2, "AveragePool"),
    "GlobalMaxPooling1D": lambda call: _global_pooling(call, 1, "ReduceMax"),
    "GlobalMaxPooling2D": lambda call: _global_pooling(call, 2, "ReduceMax"),
    "GlobalAveragePooling1D": lambda call: _global_pooling(call, 1, "ReduceMean"),
    "GlobalAveragePooling2D": lambda call: _global_pooling(call, 2, "ReduceMean"),
}
