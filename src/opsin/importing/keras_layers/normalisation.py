"""Normalisation of batches, layers, groups and pixels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor
from opsin.importing.keras_layers.layer_call import LayerCall, Writer

# Keras' own, where a value is divided by a deviation that may be 0.
_LEAST_DEVIATION: Final = 1e-7


def _scale_and_center(
    call: LayerCall, shape: tuple[int, ...], *further: tuple[int, ...]
) -> tuple[NDArray[Any] | None, NDArray[Any] | None, list[NDArray[Any]]]:
    """Read the weights that a normalisation has where its options say so, and those behind them."""
    scale, center = call.flag("scale", True), call.flag("center", True)
    found = call.take(shape if scale else None, shape if center else None, *further)
    weight = found.pop(0) if scale else None
    bias = found.pop(0) if center else None
    return weight, bias, found


def _axes(call: LayerCall, value: KerasTensor) -> list[int]:
    """Return the axes that an option names, that of the images counted."""
    axis = call.options.get("axis", -1)
    axes = [] if axis is None else axis if isinstance(axis, list) else [axis]
    if not all(isinstance(each, int) and each % (len(value.shape) + 1) > 0 for each in axes):
        raise call.refuse("has no usable axis")
    return [each % (len(value.shape) + 1) for each in axes]


def _batch(call: LayerCall) -> KerasTensor:
    value = call.value
    axes = _axes(call, value)
    if len(axes) != 1:
        raise call.refuse("has no usable axis")
    (axis,), rank = axes, len(value.shape)
    units = value.shape[axis - 1]
    weight, bias, (mean, variance) = _scale_and_center(call, (units,), (units,), (units,))
    weight = np.ones(units, np.float32) if weight is None else weight
    bias = np.zeros(units, np.float32) if bias is None else bias
    call.fixed, call.words = 2 * units, LayerOp.BATCH_NORM
    epsilon = call.number("epsilon", 1e-3)
    names = [
        call.weight(part, held) for part, held in
        (("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", variance))
    ]  # fmt: skip
    if rank == 1:
        inputs = [call.to.plain(value), *names]
        made = call.apply("BatchNormalization", inputs, "norm", epsilon=epsilon)
        return call.plainly(value.shape, made)
    if rank == 3 and axis == (1 if call.to.channels_first else 3):
        inputs = [call.to.maps(value), *names]
        made = call.apply("BatchNormalization", inputs, "norm", epsilon=epsilon)
        return call.to.of_maps(call.to.sizes(value), made)
    factor = weight / np.sqrt(variance + epsilon)
    shape = [units if each == axis else 1 for each in range(1, rank + 1)]
    held = (call.constant("factor", factor.reshape(shape)),
            call.constant("offset", (bias - mean * factor).reshape(shape)))  # fmt: skip
    return call.plainly(value.shape, call.affine(call.to.plain(value), *held, "norm"))


def _layer(call: LayerCall) -> KerasTensor:
    value = call.value
    axes, rank = sorted(_axes(call, value)), len(value.shape)
    if axes != list(range(rank + 1 - len(axes), rank + 1)) or call.options.get("rms_scaling"):
        raise call.refuse("normalises otherwise than over the last axes")
    shape = value.shape[-len(axes) :]
    weight, bias, _ = _scale_and_center(call, shape)
    held = [call.weight("weight", np.ones(shape, np.float32) if weight is None else weight)]
    held += [] if bias is None else [call.weight("bias", bias)]
    call.words = "LayerNorm"
    made = call.apply(
        "LayerNormalization", [call.to.plain(value), *held], "norm", axis=-len(axes),
        epsilon=call.number("epsilon", 1e-3),
    )  # fmt: skip
    return call.plainly(value.shape, made)


def _group(call: LayerCall) -> KerasTensor:
    height, width, channels = call.to.sizes(call.value)
    groups = channels if call.options.get("groups") == -1 else call.count("groups", 32)
    on_channels = (1,) if call.to.channels_first else (-1, 3)
    if call.options.get("axis", -1) not in on_channels or channels % groups:
        raise call.refuse("has groups that its channels cannot be divided into")
    weight, bias, _ = _scale_and_center(call, (channels,))
    call.words = "GroupNorm"
    into = call.constant("groups", [0, groups, -1], np.int64)
    back = call.constant("maps", [0, channels, height, width], np.int64)
    made = call.apply("Reshape", [call.to.maps(call.value), into], "grouped")
    units = [call.constant("ones", np.ones(groups)), call.constant("zeros", np.zeros(groups))]
    made = call.apply(
        "InstanceNormalization", [made, *units], "norm", epsilon=call.number("epsilon", 1e-3)
    )
    made = call.apply("Reshape", [made, back], "maps")
    held = [
        None if part is None else call.weight(name, part.reshape(-1, 1, 1))
        for name, part in (("weight", weight), ("bias", bias))
    ]
    made = call.affine(made, held[0], held[1], "norm")
    return call.to.of_maps((height, width, channels), made)


def _numbers(call: LayerCall, name: str, default: float) -> NDArray[np.float32]:
    try:
        found = np.asarray(call.options.get(name, default), np.float32)
    except (ValueError, TypeError) as error:
        raise call.refuse(f"has no usable {name}") from error
    if found.size > 1 << 20 or not np.isfinite(found).all():
        raise call.refuse(f"has no usable {name}")
    return found


def _rescaling(call: LayerCall) -> KerasTensor:
    value = call.value
    call.words = LayerOp.SCALE
    factor, offset = _numbers(call, "scale", 1.0), _numbers(call, "offset", 0.0)
    if factor.ndim or offset.ndim:  # by place or channel, in Keras' order
        held = (call.constant("factor", factor), call.constant("offset", offset))
        return call.plainly(value.shape, call.affine(call.to.plain(value), *held, "scaled"))
    made = call.affine(
        call.to.native(value),
        call.constant("factor", factor) if factor != 1 else None,
        call.constant("offset", offset) if offset != 0 else None,
        "scaled",
    )
    return call.to.like(value, made)


def _normalization(call: LayerCall) -> KerasTensor:
    """Write the layer that has adapted to the mean and the variance of its images."""
    value = call.value
    axes = _axes(call, value)
    kept = tuple(value.shape[each - 1] for each in axes)
    if call.options.get("mean") is not None:
        mean, variance = _numbers(call, "mean", 0.0), _numbers(call, "variance", 0.0)
    else:
        mean, variance = call.take(kept, kept)
        call.fixed = call.parameters
    shape = [size if place in axes else 1 for place, size in enumerate(value.shape, start=1)]
    mean, variance = (
        (np.broadcast_to(each, kept) if each.size == 1 else each).reshape(shape)
        for each in (mean, variance)
    )
    deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
    call.words = LayerOp.NORMALISE
    invert = call.flag("invert", False)
    factor, offset = (deviation, mean) if invert else (1 / deviation, -mean / deviation)
    in_maps = len(value.shape) == 3 and value.maps is not None and not call.to.channels_first
    if in_maps:
        factor, offset = (np.transpose(each, (2, 0, 1)) for each in (factor, offset))
    held = (call.constant("factor", factor), call.constant("offset", offset))
    given = call.to.maps(value) if in_maps else call.to.plain(value)
    made = call.affine(given, *held, "scaled")
    return call.to.like(value, made) if in_maps else call.plainly(value.shape, made)


def _layer_scale(call: LayerCall) -> KerasTensor:
    """Write the scale of each channel that ConvNeXt learns."""
    (gamma,) = call.take((call.value.shape[-1],))
    call.words = LayerOp.SCALE
    made = call.affine(call.to.plain(call.value), call.weight("weight", gamma), None, "scaled")
    return call.plainly(call.value.shape, made)


LAYERS: Final[dict[str, Writer]] = {
    "BatchNormalization": _batch,
    "LayerNormalization": _layer,
    "GroupNormalization": _group,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "LayerScale": _layer_scale,
}
