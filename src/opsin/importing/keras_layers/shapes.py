"""Layers that change a value's shape, join values, or do nothing once the training is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor
from opsin.importing.keras_layers.layer_call import LayerCall, Writer
from opsin.onnx_files.refusal import quoted


def _identity(call: LayerCall) -> KerasTensor:
    if call.kind == "Dropout":
        call.words = f"{LayerOp.DROPOUT} {call.number('rate', 0.0):g}"
    return call.value


def _flatten(call: LayerCall) -> KerasTensor:
    value = call.value
    call.words = LayerOp.FLATTEN
    plain = call.to.plain(value)
    # Keras flattens in the order of channels last, whichever order the network has.
    if call.options.get("data_format") == "channels_first" and len(value.shape) == 3:
        plain = call.apply("Transpose", [plain], "last", perm=[0, 2, 3, 1])
    return call.to.tensor((math.prod(value.shape),), plain=call.apply("Flatten", [plain], "flat"))


def _reshaped(call: LayerCall, shape: Sequence[int], part: str) -> KerasTensor:
    into = call.constant("shape", [0, *shape] if 0 not in shape else [-1, *shape], np.int64)
    return call.to.tensor(
        shape, plain=call.apply("Reshape", [call.to.plain(call.value), into], part)
    )


def _reshape(call: LayerCall) -> KerasTensor:
    value = call.value
    target = call.options.get("target_shape")
    if not isinstance(target, list | tuple) or not all(isinstance(each, int) for each in target):
        raise call.refuse("has no usable target_shape")
    size, shape = math.prod(value.shape), list(target)
    if shape.count(-1) == 1:
        rest = math.prod(each for each in shape if each != -1)
        shape[shape.index(-1)] = size // rest if rest > 0 else 0
    if any(each < 1 for each in shape) or math.prod(shape) != size:
        raise call.refuse("has a target_shape of another size")
    return _reshaped(call, shape, "reshaped")


def _permute(call: LayerCall) -> KerasTensor:
    value, dims = call.value, call.options.get("dims")
    if not isinstance(dims, list | tuple) or sorted(dims) != list(range(1, len(value.shape) + 1)):
        raise call.refuse("has no usable dims")
    made = call.apply("Transpose", [call.to.plain(value)], "permuted", perm=[0, *dims])
    return call.to.tensor([value.shape[each - 1] for each in dims], plain=made)


def _repeat(call: LayerCall) -> KerasTensor:
    value, times = call.value, call.count("n")
    if len(value.shape) != 1:
        raise call.refuse("is not given a row of numbers")
    shape = call.to.tensor((times, *value.shape)).shape
    into = call.constant("shape", [0, 1, value.shape[0]], np.int64)
    row = call.apply("Reshape", [call.to.plain(value), into], "row")
    made = call.apply("Tile", [row, call.constant("times", [1, times, 1], np.int64)], "repeated")
    return call.to.tensor(shape, plain=made)


def _sides(call: LayerCall, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return what is added or cut above and below, left and right."""
    found = call.options.get(name, 1)
    parts = [found, found] if isinstance(found, int) else list(found)
    pairs = [(each, each) if isinstance(each, int) else tuple(each) for each in parts]
    if len(pairs) != 2 or not all(
        len(pair) == 2 and all(isinstance(each, int) and 0 <= each < 1 << 16 for each in pair)
        for pair in pairs
    ):
        raise call.refuse(f"has no usable {name}")
    (top, bottom), (left, right) = pairs
    return (top, bottom), (left, right)


def _padding(call: LayerCall) -> KerasTensor:
    call.check_order()
    height, width, channels = call.to.sizes(call.value)
    (top, bottom), (left, right) = _sides(call, "padding")
    sizes = (height + top + bottom, width + left + right, channels)
    call.to.tensor(sizes)  # it may be a bomb
    pads = call.constant("pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    return call.to.of_maps(sizes, call.apply("Pad", [call.to.maps(call.value), pads], "padded"))


def cut(
    call: LayerCall, sizes: tuple[int, int, int], at: tuple[int, int], to: tuple[int, int]
) -> KerasTensor:
    """Write a part of maps."""
    if at[0] >= to[0] or at[1] >= to[1]:
        raise call.refuse("cuts all of it away")
    bounds = [call.constant(part, list(where), np.int64)
              for part, where in (("start", at), ("end", to), ("axes", (2, 3)))]  # fmt: skip
    made = call.apply("Slice", [call.to.maps(call.value), *bounds], "cut")
    return call.to.of_maps((to[0] - at[0], to[1] - at[1], sizes[2]), made)


def _cropping(call: LayerCall) -> KerasTensor:
    call.check_order()
    sizes = call.to.sizes(call.value)
    (top, bottom), (left, right) = _sides(call, "cropping")
    return cut(call, sizes, (top, left), (sizes[0] - bottom, sizes[1] - right))


def resized(
    call: LayerCall, value: KerasTensor, sizes: tuple[int, int], method: str
) -> KerasTensor:
    """Write maps of another height and width."""
    height, width, channels = call.to.sizes(value)
    out = (*sizes, channels)
    call.to.tensor(out)  # it may be a bomb
    further: dict[str, Any] = {
        "nearest": {
            "mode": "nearest", "coordinate_transformation_mode": "half_pixel",
            "nearest_mode": "round_prefer_ceil",
        },
        "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    }[method]  # fmt: skip
    # Rounded up, or as many pixels as wanted would not come out.
    scales = [np.nextafter(np.float32(new / old), np.float32(np.inf)) if new % old else new // old
              for new, old in zip(sizes, (height, width), strict=True)]  # fmt: skip
    held = call.constant("scales", [1.0, 1.0, *scales])
    made = call.apply("Resize", [call.to.maps(value), "", held], "resized", **further)
    return call.to.of_maps(out, made)


def _upsampling(call: LayerCall) -> KerasTensor:
    call.check_order()
    value = call.value
    height, width, _ = call.to.sizes(value)
    up, across = call.sizes("size", 2)
    method = call.text("interpolation", "nearest", ("nearest", "bilinear"))
    return resized(call, value, (height * up, width * across), method)


def _resizing(call: LayerCall) -> KerasTensor:
    call.check_order()
    for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if call.flag(name, False):
            raise call.refuse(f"has {name}=True, which is not known here")
    method = call.text("interpolation", "bilinear", ("nearest", "bilinear"))
    return resized(call, call.value, (call.count("height"), call.count("width")), method)


def _center_crop(call: LayerCall) -> KerasTensor:
    call.check_order()
    sizes = call.to.sizes(call.value)
    wanted = (call.count("height"), call.count("width"))
    if wanted[0] > sizes[0] or wanted[1] > sizes[1]:
        raise call.refuse("is larger than what it is given")
    at = ((sizes[0] - wanted[0]) // 2, (sizes[1] - wanted[1]) // 2)
    return cut(call, sizes, at, (at[0] + wanted[0], at[1] + wanted[1]))


def _joined(call: LayerCall, kind: str) -> KerasTensor:
    """Write what is computed of several values or constants, number by number."""
    parts = _parts(call)
    values = [each for each in parts if isinstance(each, KerasTensor)]
    if not values or len(parts) < 2:
        raise call.refuse("is given too few values")
    shape = np.broadcast_shapes(*(each.shape for each in values))
    ranks = {len(each.shape) for each in values}
    in_maps = ranks == {3} and any(each.maps is not None for each in values)
    names = [
        call.constant("number", each) if not isinstance(each, KerasTensor)
        else call.to.maps(each) if in_maps else call.to.plain(each)
        for each in parts
    ]  # fmt: skip
    if kind in ("Max", "Min", "Mean"):
        made = call.apply(kind, names, "joined")
    else:
        made = names[0]
        for name in names[1:]:
            made = call.apply(kind, [made, name], "joined")
    call.words = {"Add": LayerOp.ADD, "Max": LayerOp.MAXIMUM}.get(kind, kind)
    if in_maps:
        plain = made if call.to.channels_first else None
        return call.to.tensor(shape, plain=plain, maps=made)
    return call.to.tensor(shape, plain=made)


def _parts(call: LayerCall) -> list[Any]:
    """Return the values that a layer joins, and numbers among them."""
    found: list[Any] = []

    def add(given: Any) -> None:
        if isinstance(given, tuple):
            for each in given:
                add(each)
        elif isinstance(given, KerasTensor) or (
            isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
        ):
            found.append(given)
        elif given is not None:
            raise call.refuse(f"is given {quoted(given)}, which is no value")

    add(call.given)
    add(tuple(value for key, value in call.named.items() if key in ("x1", "x2", "y")))
    return found


def _concatenate(call: LayerCall) -> KerasTensor:
    values = call.values
    rank = len(values[0].shape) if values else 0
    axis = call.options.get("axis", -1)
    if not isinstance(axis, int) or not values or any(len(each.shape) != rank for each in values):
        raise call.refuse("is given values that cannot be joined")
    axis %= rank + 1
    shape = list(values[0].shape)
    shape[axis - 1] = sum(each.shape[axis - 1] for each in values)
    call.words = "Concatenate"
    if rank == 3 and any(each.maps is not None for each in values) and not call.to.channels_first:
        names = [call.to.maps(each) for each in values]
        place = {1: 2, 2: 3, 3: 1}[axis]
        return call.to.tensor(shape, maps=call.apply("Concat", names, "joined", axis=place))
    names = [call.to.plain(each) for each in values]
    return call.to.tensor(shape, plain=call.apply("Concat", names, "joined", axis=axis))


def _dot(call: LayerCall) -> KerasTensor:
    first, second = call.values
    axes = call.options.get("axes", -1)
    pair = [axes, axes] if isinstance(axes, int) else list(axes)
    if len(first.shape) != 1 or len(second.shape) != 1 or first.shape != second.shape:
        raise call.refuse("is given more than two rows of numbers")
    if any(axis not in (1, -1) for axis in pair):
        raise call.refuse("has no usable axes")
    names = [call.to.plain(each) for each in (first, second)]
    over = call.constant("axes", [1], np.int64)
    if call.flag("normalize", False):
        names = [
            call.apply("Div", [name, call.apply("Max", [
                call.apply("ReduceL2", [name, over], "length", keepdims=1),
                call.constant("least", 1e-6),
            ], "length")], "unit")
            for name in names
        ]  # fmt: skip
    made = call.apply("ReduceSum", [call.apply("Mul", names, "product"), over], "dot", keepdims=1)
    return call.to.tensor((1,), plain=made)


# Layers that only training needs, or that only check something.
_NOTHING: Final = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout", "GaussianNoise",
    "AlphaDropout", "StochasticDepth", "ActivityRegularization", "Identity", "RandomFlip",
    "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness",
    "RandomHeight", "RandomWidth", "RandomCrop", "RandomShear", "RandomHue", "RandomSaturation",
    "RandomColorJitter", "RandomColorDegeneration", "RandomGrayscale", "RandomGaussianBlur",
    "RandomInvert", "RandomErasing", "RandomPosterization", "RandomPerspective",
    "RandomSharpness", "RandomElasticTransform", "MixUp", "CutMix", "AugMix", "RandAugment",
)  # fmt: skip
LAYERS: Final[dict[str, Writer]] = {
    **dict.fromkeys(_NOTHING, _identity),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    "ZeroPadding2D": _padding,
    "Cropping2D": _cropping,
    "UpSampling2D": _upsampling,
    "Resizing": _resizing,
    "CenterCrop": _center_crop,
    "Add": lambda call: _joined(call, "Add"),
    "Subtract": lambda call: _joined(call, "Sub"),
    "Multiply": lambda call: _joined(call, "Mul"),
    "Average": lambda call: _joined(call, "Mean"),
    "Maximum": lambda call: _joined(call, "Max"),
    "Minimum": lambda call: _joined(call, "Min"),
    "Divide": lambda call: _joined(call, "Div"),
    "TrueDivide": lambda call: _joined(call, "Div"),
    "Concatenate": _concatenate,
    "Dot": _dot,
}
