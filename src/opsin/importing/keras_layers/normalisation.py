"""Normalisation of batches, layers, groups and units, and of pixels."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor, as_array
from opsin.importing.keras_layers.layer_call import LayerCall, Writer

# Keras' own, where a value is divided by a length or a deviation that may be 0.
_LEAST: Final = 1e-12
_LEAST_DEVIATION: Final = 1e-7


def _batch(call: LayerCall) -> KerasTensor:
    value = call.value
    axis = call.options.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if not isinstance(axis, int) or not axis % (len(value.shape) + 1) > 0:
        raise call.refuse("has no usable axis")
    axis %= len(value.shape) + 1
    units = value.shape[axis - 1]
    scale, center = call.flag("scale", True), call.flag("center", True)
    found = call.take((units,) if scale else None, (units,) if center else None, (units,), (units,))
    weight = found.pop(0) if scale else np.ones(units, np.float32)
    bias = found.pop(0) if center else np.zeros(units, np.float32)
    mean, variance = found
    call.fixed = 2 * units
    call.words = LayerOp.BATCH_NORM
    channel = 1 if call.to.channels_first else 3
    names = [
        call.weight(part, held) for part, held in
        (("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", variance))
    ]  # fmt: skip
    epsilon = call.number("epsilon", 1e-3)
    if len(value.shape) == 1 or (len(value.shape) == 3 and axis == channel):
        taken = call.to.plain(value) if len(value.shape) == 1 else call.to.maps(value)
        made = call.apply("BatchNormalization", [taken, *names], "norm", epsilon=epsilon)
        if len(value.shape) == 1:
            return call.to.tensor(value.shape, plain=made)
        return call.to.of_maps(call.to.sizes(value), made)
    factor = weight / np.sqrt(variance + epsilon)
    shape = [units if each == axis else 1 for each in range(1, len(value.shape) + 1)]
    made = call.apply("Mul", [
        call.to.plain(value), call.constant("factor", factor.reshape(shape))
    ], "norm")  # fmt: skip
    offset = call.constant("offset", (bias - mean * factor).reshape(shape))
    return call.to.tensor(value.shape, plain=call.apply("Add", [made, offset], "norm"))


def _layer(call: LayerCall) -> KerasTensor:
    value = call.value
    axes = call.options.get("axis", -1)
    axes = sorted(
        each % (len(value.shape) + 1) for each in (axes if isinstance(axes, list) else [axes])
    )
    last = list(range(len(value.shape) + 1 - len(axes), len(value.shape) + 1))
    if axes != last or call.options.get("rms_scaling"):
        raise call.refuse("normalises otherwise than over the last axes")
    shape = value.shape[-len(axes) :]
    scale, center = call.flag("scale", True), call.flag("center", True)
    found = call.take(shape if scale else None, shape if center else None)
    weight = found.pop(0) if scale else np.ones(shape, np.float32)
    held = [call.weight("weight", weight), *(call.weight("bias", each) for each in found)]
    call.words = "LayerNorm"
    made = call.apply(
        "LayerNormalization", [call.to.plain(value), *held], "norm", axis=-len(axes),
        epsilon=call.number("epsilon", 1e-3),
    )  # fmt: skip
    return call.to.tensor(value.shape, plain=made)


def _group(call: LayerCall) -> KerasTensor:
    value = call.value
    height, width, channels = call.to.sizes(value)
    groups = call.options.get("groups", 32)
    groups = channels if groups == -1 else call.count("groups", 32)
    on_channels = (1,) if call.to.channels_first else (-1, 3)
    if call.options.get("axis", -1) not in on_channels or channels % groups:
        raise call.refuse("has groups that its channels cannot be divided into")
    scale, center = call.flag("scale", True), call.flag("center", True)
    found = call.take((channels,) if scale else None, (channels,) if center else None)
    call.words = "GroupNorm"
    into = call.constant("groups", [0, groups, -1], np.int64)
    back = call.constant("maps", [0, channels, height, width], np.int64)
    made = call.apply("Reshape", [call.to.maps(value), into], "grouped")
    units = [call.constant("ones", np.ones(groups)), call.constant("zeros", np.zeros(groups))]
    made = call.apply(
        "InstanceNormalization", [made, *units], "norm", epsilon=call.number("epsilon", 1e-3)
    )
    made = call.apply("Reshape", [made, back], "maps")
    if scale:
        weight = call.weight("weight", found.pop(0).reshape(-1, 1, 1))
        made = call.apply("Mul", [made, weight], "norm")
    if center:
        bias = call.weight("bias", found.pop(0).reshape(-1, 1, 1))
        made = call.apply("Add", [made, bias], "norm")
    return call.to.of_maps((height, width, channels), made)


def _unit(call: LayerCall) -> KerasTensor:
    value = call.value
    axes = call.options.get("axis", -1)
    axes = axes if isinstance(axes, list) else [axes]
    plain = call.to.plain(value)
    over = call.constant("axes", axes, np.int64)
    length = call.apply("ReduceL2", [plain, over], "length", keepdims=1)
    length = call.apply("Max", [length, call.constant("least", math.sqrt(_LEAST))], "length")
    return call.to.tensor(value.shape, plain=call.apply("Div", [plain, length], "unit"))


def _rescaling(call: LayerCall) -> KerasTensor:
    value = call.value
    call.words = LayerOp.SCALE
    factor, offset = (_numbers(call, name, default)
                      for name, default in (("scale", 1.0), ("offset", 0.0)))  # fmt: skip
    if factor.ndim or offset.ndim:
        return _by_channel(call, value, factor, offset)
    made = call.to.native(value)
    if factor != 1:
        made = call.apply("Mul", [made, call.constant("factor", factor)], "scaled")
    if offset != 0:
        made = call.apply("Add", [made, call.constant("offset", offset)], "scaled")
    return call.to.like(value, made)


def _numbers(call: LayerCall, name: str, default: float) -> NDArray[np.float32]:
    try:
        found = as_array(call.options.get(name, default))
    except (ValueError, TypeError) as error:
        raise call.refuse(f"has no usable {name}") from error
    if found.size > 1 << 20 or not np.isfinite(found).all():
        raise call.refuse(f"has no usable {name}")
    return found


def _by_channel(
    call: LayerCall, value: KerasTensor, factor: NDArray[Any], offset: NDArray[Any]
) -> KerasTensor:
    """Write a product and a sum that differ by place or channel, in Keras' order."""
    made = call.apply("Mul", [call.to.plain(value), call.constant("factor", factor)], "scaled")
    made = call.apply("Add", [made, call.constant("offset", offset)], "scaled")
    return call.to.tensor(value.shape, plain=made)


def _normalization(call: LayerCall) -> KerasTensor:
    """Write the layer that has adapted to the mean and the variance of its images."""
    value = call.value
    axis = call.options.get("axis", -1)
    axes = [] if axis is None else axis if isinstance(axis, list) else [axis]
    axes = [each % (len(value.shape) + 1) for each in axes]
    kept = tuple(value.shape[each - 1] for each in axes)
    if call.options.get("mean") is not None:
        mean, variance = (_numbers(call, name, 0.0) for name in ("mean", "variance"))
    else:
        mean, variance = call.take(kept, kept)
        call.fixed = call.parameters
    shape = [value.shape[each - 1] if each in axes else 1
             for each in range(1, len(value.shape) + 1)]  # fmt: skip
    mean, variance = (
        np.broadcast_to(each, kept).reshape(shape) if each.size == 1 else each.reshape(shape)
        for each in (mean, variance)
    )
    deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
    call.words = LayerOp.NORMALISE
    factor, offset = as_array(1 / deviation), as_array(-mean / deviation)
    if call.flag("invert", False):
        factor, offset = as_array(deviation), as_array(mean)
    if len(value.shape) == 3 and value.maps is not None and not call.to.channels_first:
        factor, offset = (np.transpose(each, (2, 0, 1)) for each in (factor, offset))
        made = call.apply("Mul", [value.maps, call.constant("factor", factor)], "scaled")
        made = call.apply("Add", [made, call.constant("offset", offset)], "scaled")
        return call.to.like(value, made)
    return _by_channel(call, value, factor, offset)


def _layer_scale(call: LayerCall) -> KerasTensor:
    """Write the scale of each channel that ConvNeXt learns."""
    value = call.value
    (gamma,) = call.take((value.shape[-1],))
    made = call.apply("Mul", [call.to.plain(value), call.weight("weight", gamma)], "scaled")
    call.words = LayerOp.SCALE
    return call.to.tensor(value.shape, plain=made)


LAYERS: Final[dict[str, Writer]] = {
    "BatchNormalization": _batch,
    "LayerNormalization": _layer,
    "GroupNormalization": _group,
    "UnitNormalization": _unit,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "LayerScale": _layer_scale,
}
