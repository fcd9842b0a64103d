"""Activations: layers of their own, and the ends of other layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opsin.core.metadata import LayerOp
from opsin.importing.keras_graph import KerasTensor
from opsin.importing.keras_layers.layer_call import LayerCall, Writer
from opsin.onnx_files.refusal import quoted

_Write = Callable[[LayerCall, str], str]


def _simple(kind: str, **attributes: Any) -> _Write:
    return lambda call, value: call.apply(kind, [value], kind.lower(), **attributes)


def _with_itself(kind: str, inner: _Write, part: str) -> _Write:
    """Join a value and what an activation makes of it."""
    return lambda call, value: call.apply(kind, [value, inner(call, value)], part)


def _clipped(call: LayerCall, value: str, low: float, high: float) -> str:
    bounds = [call.constant("low", low), call.constant("high", high)]
    return call.apply("Clip", [value, *bounds], "clip")


def _relu6(call: LayerCall, value: str) -> str:
    return _clipped(call, value, 0.0, 6.0)


def _hard_sigmoid(call: LayerCall, value: str) -> str:
    # Keras 3 made it relu6(x + 3) / 6.
    alpha = 1 / 6 if call.version >= (3,) else 0.2
    return call.apply("HardSigmoid", [value], "hard_sigmoid", alpha=alpha, beta=0.5)


def _log_sigmoid(call: LayerCall, value: str) -> str:
    return call.apply("Log", [call.apply("Sigmoid", [value], "sigmoid")], "log_sigmoid")


_SIGMOID: Final = _simple("Sigmoid")
_SILU: Final = _with_itself("Mul", _SIGMOID, "silu")
_HARD_SILU: Final = _with_itself("Mul", _hard_sigmoid, "hard_silu")
# By what Keras calls them; those without an operator of their own are left out.
_ACTIVATIONS: Final[dict[str, _Write]] = {
    "relu": _simple("Relu"),
    "relu6": _relu6,
    "sigmoid": _SIGMOID,
    "tanh": _simple("Tanh"),
    "softmax": _simple("Softmax", axis=-1),
    "log_softmax": _simple("LogSoftmax", axis=-1),
    "elu": _simple("Elu", alpha=1.0),
    "selu": _simple("Selu"),
    "celu": _simple("Celu", alpha=1.0),
    "softplus": _simple("Softplus"),
    "softsign": _simple("Softsign"),
    "exponential": _simple("Exp"),
    "mish": _simple("Mish"),
    "gelu": _simple("Gelu", approximate="none"),
    "silu": _SILU,
    "swish": _SILU,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _HARD_SILU,
    "hard_swish": _HARD_SILU,
    "leaky_relu": _simple("LeakyRelu", alpha=0.2),
    "log_sigmoid": _log_sigmoid,
    "tanh_shrink": _with_itself("Sub", _simple("Tanh"), "tanh_shrink"),
}
_WORDS: Final = {
    "relu": LayerOp.RELU, "relu6": f"{LayerOp.RELU} up to 6", "sigmoid": LayerOp.SIGMOID,
    "tanh": LayerOp.TANH, "gelu": LayerOp.GELU, "silu": LayerOp.SILU, "swish": LayerOp.SILU,
    "softmax": "Softmax",
}  # fmt: skip


def activated(call: LayerCall, value: KerasTensor) -> KerasTensor:
    """Write the activation that a layer has or is, if any."""
    found = call.options.get("activation")
    if isinstance(found, dict):  # an activation of Keras' own, as an object
        config = found.get("config")
        found = config if isinstance(config, str) else found.get("class_name")
    name = "linear" if found is None else str(found)
    if name == "linear":
        return value
    if name not in _ACTIVATIONS:
        raise call.refuse(f"has the activation {quoted(name)}, which is not known here")
    words = str(_WORDS.get(name, name))
    call.words = f"{call.words} + {words}" if call.words else words
    if name in ("softmax", "log_softmax"):  # of all units of a place, which are last in Keras
        return call.plainly(value.shape, _ACTIVATIONS[name](call, call.to.plain(value)))
    return call.to.like(value, _ACTIVATIONS[name](call, call.to.native(value)))


def _activation(call: LayerCall) -> KerasTensor:
    made = activated(call, call.value)
    call.words = call.words or "linear"
    return made


def _relu(call: LayerCall) -> KerasTensor:
    """Write a ReLU with a slope below, a threshold and a largest value."""
    value, most = call.value, call.options.get("max_value")
    slope, threshold = call.number("negative_slope", 0.0), call.number("threshold", 0.0)
    highest = None if most is None else call.number("max_value")
    call.words = LayerOp.RELU if highest is None else f"{LayerOp.RELU} up to {highest:g}"
    name = call.to.native(value)
    if slope == 0 and threshold == 0:
        if highest is not None:
            return call.to.like(value, _clipped(call, name, 0.0, highest))
        return call.to.like(value, call.apply("Relu", [name], "relu"))
    limit = call.constant("threshold", threshold)
    below = call.apply("Sub", [name, limit], "above")
    below = call.apply("Mul", [below, call.constant("slope", slope)], "below")
    high = name
    if highest is not None:
        high = call.apply("Min", [name, call.constant("most", highest)], "most")
    enough = call.apply("GreaterOrEqual", [name, limit], "enough")
    return call.to.like(value, call.apply("Where", [enough, high, below], "relu"))


def _sloped(call: LayerCall, kind: str, words: str, option: str, default: float) -> KerasTensor:
    call.words = words
    alpha = call.number(option, default)
    made = call.apply(kind, [call.to.native(call.value)], kind.lower(), alpha=alpha)
    return call.to.like(call.value, made)


def _leaky_relu(call: LayerCall) -> KerasTensor:
    option = "negative_slope" if "negative_slope" in call.options else "alpha"
    return _sloped(call, "LeakyRelu", "LeakyReLU", option, 0.3)


def _prelu(call: LayerCall) -> KerasTensor:
    value, shared = call.value, call.options.get("shared_axes") or []
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(value.shape, start=1))
    (slope,) = call.take(shape)
    call.words = "PReLU"
    if value.maps is not None and not call.to.channels_first:
        slope = slope.transpose(2, 0, 1)
    inputs = [call.to.native(value), call.weight("weight", slope)]
    return call.to.like(value, call.apply("PRelu", inputs, "prelu"))


def _softmax(call: LayerCall) -> KerasTensor:
    if call.named.get("mask") is not None:
        raise call.refuse("is given a mask")
    value, axis = call.value, call.options.get("axis", -1)
    if not isinstance(axis, int) or axis == 0 or not -len(value.shape) <= axis <= len(value.shape):
        raise call.refuse("has no usable axis")
    call.words = "Softmax"
    made = call.apply("Softmax", [call.to.plain(value)], "softmax", axis=axis)
    return call.plainly(value.shape, made)


LAYERS: Final[dict[str, Writer]] = {
    "Activation": _activation,
    "ReLU": _relu,
    "ReLU6": lambda call: call.to.like(call.value, _relu6(call, call.to.native(call.value))),
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    "ELU": lambda call: _sloped(call, "Elu", "ELU", "alpha", 1.0),
    "Softmax": _softmax,
}
