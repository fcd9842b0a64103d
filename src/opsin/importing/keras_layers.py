"""Layers that weigh values, change their shape, join them, or do nothing after the training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor, LayerCall, Writer
from opsin.importing.keras_numbers import activated
from opsin.runtime.onnx_scan import printable


def _identity(call: LayerCall) -> KerasTensor:
    if call.kind == "Dropout":
        call.words = f"{LayerOp.DROPOUT} {call.number('rate', 0.0):g}"
    return call.value


def _flatten(call: LayerCall) -> KerasTensor:
    call.words = LayerOp.FLATTEN
    made = call.apply("Flatten", [call.to.plain(call.value)], "flat")
    return call.to.tensor((math.prod(call.value.shape),), made)


def _reshape(call: LayerCall) -> KerasTensor:
    value, target = call.value, call.options.get("target_shape")
    if not isinstance(target, list | tuple) or not all(isinstance(dim, int) for dim in target):
        raise call.refuse("has no usable target_shape")
    size, shape = math.prod(value.shape), list(target)
    if shape.count(-1) == 1:
        rest = math.prod(dim for dim in shape if dim != -1)
        shape[shape.index(-1)] = size // rest if rest > 0 else 0
    if any(dim < 1 for dim in shape) or math.prod(shape) != size:
        raise call.refuse("has a target_shape of another size")
    into = call.constant("shape", [0, *shape], np.int64)
    return call.to.of_plain(shape, call.apply("Reshape", [call.to.plain(value), into], "reshaped"))


def _permute(call: LayerCall) -> KerasTensor:
    value, dims = call.value, call.options.get("dims")
    if not isinstance(dims, list | tuple) or sorted(dims) != list(range(1, len(value.shape) + 1)):
        raise call.refuse("has no usable dims")
    made = call.apply("Transpose", [call.to.plain(value)], "permuted", perm=[0, *dims])
    return call.to.of_plain([value.shape[dim - 1] for dim in dims], made)


def _sides(call: LayerCall, name: str) -> list[tuple[int, int]]:
    value = call.options.get(name, 1)
    parts = [value, value] if isinstance(value, int) else list(value)
    pairs = [(part, part) if isinstance(part, int) else tuple(part) for part in parts]
    sides = [side for pair in pairs for side in pair]
    whole = all(isinstance(side, int) and 0 <= side < 1 << 16 for side in sides)
    if [len(pair) for pair in pairs] != [2, 2] or not whole:
        raise call.refuse(f"has no usable {name}")
    return pairs


def _padding(call: LayerCall) -> KerasTensor:
    height, width, channels = call.to.sizes(call.value)
    (top, bottom), (left, right) = _sides(call, "padding")
    pads = call.constant("pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    made = call.apply("Pad", [call.value.name, pads], "padded")
    return call.to.tensor((height + top + bottom, width + left + right, channels), made)


def _cropping(call: LayerCall) -> KerasTensor:
    height, width, channels = call.to.sizes(call.value)
    (top, bottom), (left, right) = _sides(call, "cropping")
    tall, wide = height - top - bottom, width - left - right
    if tall < 1 or wide < 1:
        raise call.refuse("cuts all of it away")
    ends = (("start", [top, left]), ("end", [height - bottom, width - right]), ("axes", [2, 3]))
    bounds = [call.constant(part, where, np.int64) for part, where in ends]
    made = call.apply("Slice", [call.value.name, *bounds], "cut")
    return call.to.tensor((tall, wide, channels), made)


_RESIZED: Final = {
    "nearest": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
    "bilinear": {"mode": "linear"},
}


def _resizing(call: LayerCall) -> KerasTensor:
    for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if call.flag(name, False):
            raise call.refuse(f"has {name}=True, which is not known here")
    method = call.text("interpolation", "bilinear", tuple(_RESIZED))
    height, width, channels = call.to.sizes(call.value)
    sizes = (call.count("height"), call.count("width"))
    # Rounded up, or as many pixels as wanted would not come out.
    scales = [
        np.nextafter(np.float32(new / old), np.float32(np.inf)) if new % old else new // old
        for new, old in zip(sizes, (height, width), strict=True)
    ]
    held = call.constant("scales", [1.0, 1.0, *scales])
    made = call.apply("Resize", [call.value.name, "", held], "resized", **_RESIZED[method])
    return call.to.tensor((*sizes, channels), made)


def _joined(call: LayerCall, kind: str) -> KerasTensor:
    further = (call.named.get(key) for key in ("x1", "x2", "y"))
    parts = _parts(call, (call.given, *(part for part in further if part is not None)))
    values = [part for part in parts if isinstance(part, KerasTensor)]
    if not values or len(parts) < 2:
        raise call.refuse("is given too few values")
    shape = np.broadcast_shapes(*(part.shape for part in values))
    in_maps = all(len(part.shape) == 3 for part in values)
    names = [
        call.constant("number", part)
        if not isinstance(part, KerasTensor)
        else part.name
        if in_maps
        else call.to.plain(part)
        for part in parts
    ]
    if kind in ("Max", "Min", "Mean"):
        made = call.apply(kind, names, "joined")
    else:
        made = names[0]
        for name in names[1:]:
            made = call.apply(kind, [made, name], "joined")
    call.words = {"Add": LayerOp.ADD, "Max": LayerOp.MAXIMUM}.get(kind, kind)
    return call.to.tensor(shape, made) if in_maps else call.to.of_plain(shape, made)


def _parts(call: LayerCall, values: Any) -> list[Any]:
    if isinstance(values, tuple):
        return [value for part in values for value in _parts(call, part)]
    number = type(values) in (int, float) and math.isfinite(values)
    if isinstance(values, KerasTensor) or number:
        return [values]
    raise call.refuse(f"is given {printable(values)}, which is no value")


def _concatenate(call: LayerCall) -> KerasTensor:
    values = call.values
    rank = len(values[0].shape) if values else 0
    axis = call.options.get("axis", -1)
    if not isinstance(axis, int) or not values or any(len(value.shape) != rank for value in values):
        raise call.refuse("is given values that cannot be joined")
    axis %= rank + 1
    shape = list(values[0].shape)
    shape[axis - 1] = sum(value.shape[axis - 1] for value in values)
    call.words = "Concatenate"
    channel_axis = {1: 2, 2: 3, 3: 1}[axis] if rank == 3 else axis
    names = [value.name for value in values]
    return call.to.tensor(shape, call.apply("Concat", names, "joined", axis=channel_axis))


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
        total = [
            max((count - 1) * step + width - size, 0)
            for count, (size, width, step) in zip(out, axes, strict=True)
        ]
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
        made = convolved(made, pointwise.transpose(3, 2, 0, 1), rest, "")
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


# Layers that only training needs, or that only check something.
_NOTHING: Final = (
    "Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise",
    "AlphaDropout", "StochasticDepth", "ActivityRegularization", "Identity", "RandomFlip",
    "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness",
    "RandomHeight", "RandomWidth", "RandomCrop", "RandomShear", "RandomHue", "RandomSaturation",
    "RandomColorJitter", "RandomColorDegeneration", "RandomGrayscale", "RandomGaussianBlur",
    "RandomInvert", "RandomErasing", "RandomPosterization", "RandomPerspective",
    "RandomSharpness", "RandomElasticTransform", "MixUp", "CutMix", "AugMix", "RandAugment",
)  # fmt: skip
LAYERS: Final[dict[str, Writer]] = {
    "Dense": _dense,
    "Conv2D": _convolution,
    "DepthwiseConv2D": lambda call: _convolution(call, "depthwise"),
    "SeparableConv2D": lambda call: _convolution(call, "separable"),
    "MaxPooling2D": lambda call: _pooling(call, "MaxPool"),
    "AveragePooling2D": lambda call: _pooling(call, "AveragePool"),
    "GlobalMaxPooling2D": lambda call: _global_pooling(call, "ReduceMax"),
    "GlobalAveragePooling2D": lambda call: _global_pooling(call, "ReduceMean"),
    **dict.fromkeys(_NOTHING, _identity),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "ZeroPadding2D": _padding,
    "Cropping2D": _cropping,
    "Resizing": _resizing,
    "Add": lambda call: _joined(call, "Add"),
    "Subtract": lambda call: _joined(call, "Sub"),
    "Multiply": lambda call: _joined(call, "Mul"),
    "Average": lambda call: _joined(call, "Mean"),
    "Maximum": lambda call: _joined(call, "Max"),
    "Minimum": lambda call: _joined(call, "Min"),
    "Divide": lambda call: _joined(call, "Div"),
    "TrueDivide": lambda call: _joined(call, "Div"),
    "Concatenate": _concatenate,
}
