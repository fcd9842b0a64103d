"""Layers that change numbers and no shape: activations, normalisation, scaling of pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor, LayerCall, Writer
from opsin.runtime.onnx_scan import printable

# Keras' own, where a value is divided by a deviation that may be 0.
_LEAST_DEVIATION: Final = 1e-7
_Write = Callable[[LayerCall, str], str]


def _simple(kind: str, **attributes: Any) -> _Write:
    return lambda call, value: call.apply(kind, [value], kind.lower(), **attributes)


def _gated(gate: _Write, part: str) -> _Write:
    return lambda call, value: call.apply("Mul", [value, gate(call, value)], part)


def _clipped(call: LayerCall, value: str, low: float, high: float) -> str:
    bounds = [call.constant("low", low), call.constant("high", high)]
    return call.apply("Clip", [value, *bounds], "clip")


def _relu6(call: LayerCall, value: str) -> str:
    return _clipped(call, value, 0.0, 6.0)


def _hard_sigmoid(call: LayerCall, value: str) -> str:
    # Keras 3 made it relu6(x + 3) / 6.
    alpha = 1 / 6 if call.version >= (3,) else 0.2
    return call.apply("HardSigmoid", [value], "hard_sigmoid", alpha=alpha, beta=0.5)


_SILU: Final = _gated(_simple("Sigmoid"), "silu")
_HARD_SILU: Final = _gated(_hard_sigmoid, "hard_silu")
# By what Keras calls them: how they are written, and what the summary table calls them.
_ACTIVATIONS: Final[dict[str, tuple[_Write, str]]] = {
    "relu": (_simple("Relu"), LayerOp.RELU),
    "relu6": (_relu6, f"{LayerOp.RELU} up to 6"),
    "sigmoid": (_simple("Sigmoid"), LayerOp.SIGMOID),
    "tanh": (_simple("Tanh"), LayerOp.TANH),
    "softmax": (_simple("Softmax", axis=-1), "Softmax"),
    "log_softmax": (_simple("LogSoftmax", axis=-1), "log_softmax"),
    "elu": (_simple("Elu", alpha=1.0), "elu"),
    "selu": (_simple("Selu"), "selu"),
    "softplus": (_simple("Softplus"), "softplus"),
    "softsign": (_simple("Softsign"), "softsign"),
    "exponential": (_simple("Exp"), "exponential"),
    "mish": (_simple("Mish"), "mish"),
    "gelu": (_simple("Gelu", approximate="none"), LayerOp.GELU),
    "silu": (_SILU, LayerOp.SILU),
    "swish": (_SILU, LayerOp.SILU),
    "hard_sigmoid": (_hard_sigmoid, "hard_sigmoid"),
    "hard_silu": (_HARD_SILU, "hard_silu"),
    "hard_swish": (_HARD_SILU, "hard_swish"),
    "leaky_relu": (_simple("LeakyRelu", alpha=0.2), "leaky_relu"),
}


def activated(call: LayerCall, value: KerasTensor) -> KerasTensor:
    """Write the activation that a layer has or is, if any."""
    activation = call.options.get("activation")
    if isinstance(activation, dict):  # an activation of Keras' own, as an object
        config = activation.get("config")
        activation = config if isinstance(config, str) else activation.get("class_name")
    name = "linear" if activation is None else str(activation)
    if name == "linear":
        call.words = call.words or name
        return value
    if name not in _ACTIVATIONS:
        raise call.refuse(f"has the activation {printable(name)}, which is not known here")
    write, words = _ACTIVATIONS[name]
    call.words = f"{call.words} + {words}" if call.words else str(words)
    if name in ("softmax", "log_softmax"):  # of all units of a place, which are last in Keras
        return call.to.of_plain(value.shape, write(call, call.to.plain(value)))
    return KerasTensor(value.shape, write(call, value.name))


def _relu(call: LayerCall) -> KerasTensor:
    value, most = call.value, call.options.get("max_value")
    if call.number("negative_slope", 0.0) or call.number("threshold", 0.0):
        raise call.refuse("has a slope or a threshold, which are not known here")
    if most is None:
        call.words = LayerOp.RELU
        return call.same(call.apply("Relu", [value.name], "relu"))
    highest = call.number("max_value")
    call.words = f"{LayerOp.RELU} up to {highest:g}"
    return call.same(_clipped(call, value.name, 0.0, highest))


def _sloped(call: LayerCall, kind: str, words: str, option: str, default: float) -> KerasTensor:
    call.words, alpha = words, call.number(option, default)
    return call.same(call.apply(kind, [call.value.name], kind.lower(), alpha=alpha))


def _leaky_relu(call: LayerCall) -> KerasTensor:
    option = "negative_slope" if "negative_slope" in call.options else "alpha"
    return _sloped(call, "LeakyRelu", "LeakyReLU", option, 0.3)


def _softmax(call: LayerCall) -> KerasTensor:
    if call.named.get("mask") is not None:
        raise call.refuse("is given a mask")
    value, axis = call.value, call.options.get("axis", -1)
    if not isinstance(axis, int) or axis == 0 or not -len(value.shape) <= axis <= len(value.shape):
        raise call.refuse("has no usable axis")
    call.words = "Softmax"
    made = call.apply("Softmax", [call.to.plain(value)], "softmax", axis=axis)
    return call.to.of_plain(value.shape, made)


def _in_order(numbers: NDArray[Any]) -> NDArray[Any]:
    """Bring numbers into the graph's order of axes."""
    return numbers.transpose(2, 0, 1) if numbers.ndim == 3 else numbers


def _norm_weights(
    call: LayerCall, shape: tuple[int, ...], *further: tuple[int, ...]
) -> list[NDArray[np.float32]]:
    """Read a normalisation's scale and offset, 1 and 0 without one, and its further weights."""
    scale, center = call.flag("scale", True), call.flag("center", True)
    weights = call.take(shape if scale else None, shape if center else None, *further)
    if not scale:
        weights.insert(0, np.ones(shape, np.float32))
    if not center:
        weights.insert(1, np.zeros(shape, np.float32))
    return weights


def _axes(call: LayerCall) -> list[int]:
    axis, count = call.options.get("axis", -1), len(call.value.shape) + 1
    axes = [] if axis is None else axis if isinstance(axis, list) else [axis]
    if not all(isinstance(axis, int) and axis % count > 0 for axis in axes):
        raise call.refuse("has no usable axis")
    return [axis % count for axis in axes]


def _batch(call: LayerCall) -> KerasTensor:
    value, rank = call.value, len(call.value.shape)
    if _axes(call) != [rank] or rank not in (1, 3):
        raise call.refuse("normalises otherwise than over the channels")
    units = value.shape[-1]
    weights = _norm_weights(call, (units,), (units,), (units,))
    call.fixed, call.words = 2 * units, LayerOp.BATCH_NORM
    parts = zip(("weight", "bias", "running_mean", "running_var"), weights, strict=True)
    inputs = [value.name, *(call.weight(part, numbers) for part, numbers in parts)]
    epsilon = call.number("epsilon", 1e-3)
    return call.same(call.apply("BatchNormalization", inputs, "norm", epsilon=epsilon))


def _layer(call: LayerCall) -> KerasTensor:
    value = call.value
    axes, rank = sorted(_axes(call)), len(value.shape)
    if axes != list(range(rank + 1 - len(axes), rank + 1)) or call.options.get("rms_scaling"):
        raise call.refuse("normalises otherwise than over the last axes")
    shape = value.shape[-len(axes) :]
    weight, bias = _norm_weights(call, shape)
    names = [call.to.plain(value), call.weight("weight", weight), call.weight("bias", bias)]
    call.words, how = "LayerNorm", {"axis": -len(axes), "epsilon": call.number("epsilon", 1e-3)}
    made = call.apply("LayerNormalization", names, "norm", **how)
    return call.to.of_plain(value.shape, made)


def _numbers(call: LayerCall, name: str, default: float) -> NDArray[np.float32]:
    try:
        values = np.asarray(call.options.get(name, default), np.float32)
    except (ValueError, TypeError) as error:
        raise call.refuse(f"has no usable {name}") from error
    if values.size > 1 << 20 or not np.isfinite(values).all():
        raise call.refuse(f"has no usable {name}")
    return values


def _rescaling(call: LayerCall) -> KerasTensor:
    call.words = LayerOp.SCALE
    factor, offset = _numbers(call, "scale", 1.0), _numbers(call, "offset", 0.0)
    if factor.ndim or offset.ndim:  # by place or channel, in Keras' order
        pair = (call.constant("factor", factor), call.constant("offset", offset))
        made = call.affine(call.to.plain(call.value), *pair, "scaled")
        return call.to.of_plain(call.value.shape, made)
    product = call.constant("factor", factor) if factor != 1 else None
    total = call.constant("offset", offset) if offset != 0 else None
    return call.same(call.affine(call.value.name, product, total, "scaled"))


def _normalization(call: LayerCall) -> KerasTensor:
    """Write the layer that has adapted to the mean and the variance of its images."""
    value, axes = call.value, _axes(call)
    kept = tuple(value.shape[axis - 1] for axis in axes)
    if call.options.get("mean") is not None:
        mean, variance = _numbers(call, "mean", 0.0), _numbers(call, "variance", 0.0)
    else:
        mean, variance = call.take(kept, kept)
        call.fixed = call.parameters
    shape = [size if axis in axes else 1 for axis, size in enumerate(value.shape, start=1)]
    mean, variance = (
        (np.broadcast_to(numbers, kept) if numbers.size == 1 else numbers).reshape(shape)
        for numbers in (mean, variance)
    )
    deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
    call.words = LayerOp.NORMALISE
    invert = call.flag("invert", False)
    factor, offset = (deviation, mean) if invert else (1 / deviation, -mean / deviation)
    pair = (call.constant("factor", _in_order(factor)), call.constant("offset", _in_order(offset)))
    return call.same(call.affine(value.name, *pair, "scaled"))


def _layer_scale(call: LayerCall) -> KerasTensor:
    (gamma,) = call.take((call.value.shape[-1],))
    call.words = LayerOp.SCALE
    shape = (1,) * (len(call.value.shape) - 1) + gamma.shape
    weight = call.weight("weight", _in_order(gamma.reshape(shape)))
    return call.same(call.affine(call.value.name, weight, None, "scaled"))


NUMBERS: Final[dict[str, Writer]] = {
    "Activation": lambda call: activated(call, call.value),
    "ReLU": _relu,
    "ReLU6": lambda call: call.same(_relu6(call, call.value.name)),
    "LeakyReLU": _leaky_relu,
    "ELU": lambda call: _sloped(call, "Elu", "ELU", "alpha", 1.0),
    "Softmax": _softmax,
    "BatchNormalization": _batch,
    "LayerNormalization": _layer,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "LayerScale": _layer_scale,
}
