"""Layers that change a value's shape, join values, or do nothing once the training is over."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor, LayerCall, Writer
from opsin.onnx_files.refusal import quoted


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
    scales = [np.nextafter(np.float32(new / old), np.float32(np.inf)) if new % old else new // old
              for new, old in zip(sizes, (height, width), strict=True)]  # fmt: skip
    held = call.constant("scales", [1.0, 1.0, *scales])
    made = call.apply(
        "Resize", [call.value.name, "", held], "resized",
        coordinate_transformation_mode="half_pixel", **_RESIZED[method],
    )  # fmt: skip
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
        call.constant("number", part) if not isinstance(part, KerasTensor)
        else part.name if in_maps else call.to.plain(part)
        for part in parts
    ]  # fmt: skip
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
    raise call.refuse(f"is given {quoted(values)}, which is no value")


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
SHAPES: Final[dict[str, Writer]] = {
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
