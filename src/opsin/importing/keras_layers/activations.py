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


def _relu6(call: LayerCall, value: str) -> str:
    return _clipped(call, value, 0.0, 6.0)


def _clipped(call: LayerCall, value: str, low: float, high: float) -> str:
    bounds = [call.constant("low", low), call.constant("high", high)]
    return call.apply("Clip", [value, *bounds], "clip")


def _hard_sigmoid(call: LayerCall, value: str) -> str:
    # Keras 3 made it relu6(x + 3) / 6.
    alpha = 1 / 6 if call.version >= (3,) else 0.2
    return call.apply("HardSigmoid", [value], "hard_sigmoid", alpha=alpha, beta=0.5)


def _hard_silu(call: LayerCall, value: str) -> str:
    return call.apply("Mul", [value, _hard_sigmoid(call, value)], "hard_silu")


def _silu(call: LayerCall, value: str) -> str:
    return call.apply("Mul", [value, call.apply("Sigmoid", [value], "sigmoid")], "silu")


def _log_sigmoid(call: LayerCall, value: str) -> str:
    return call.apply("Log", [call.apply("Sigmoid", [value], "sigmoid")], "log_sigmoid")


def _tanh_shrink(call: LayerCall, value: str) -> str:
    return call.apply("Sub", [value, call.apply("Tanh", [value], "tanh")], "tanh_shrink")


# By what Keras calls them; those without an operator of their own are left out.
_ACTIVATIONS: Final[dict[str, _Write]] = {
    "relu": _simple("Relu"),
    "relu6": _relu6,
    "sigmoid": _simple("Sigmoid"),
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
    "silu": _silu,
    "swish": _silu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    "hard_swish": _hard_silu,
    "leaky_relu": _simple("LeakyRelu", alpha=0.2),
    "log_sigmoid": _log_sigmoid,
    "tanh_shrink": _tanh_shrink,
}
_WORDS: Final = {
    "relu": LayerOp.RELU, "relu6": f"{LayerOp.RELU} up to 6", "sigmoid": LayerOp.SIGMOID,
    "tanh": LayerOp.TANH, "gelu": LayerOp.GELU, "silu": LayerOp.SILU, "swish": LayerOp.SILU,
    "softmax": "Softmax",
}  # fmt: skip
# These look at all units of a place together, which are last in Keras' order.
_OF_ALL_UNITS: Final = ("softmax", "log_softmax")


def activated(call: LayerCall, value: KerasTensor, option: str = "activation") -> KerasTensor:
    """Write the activation that ends a layer, if it has one."""
    name = _name(call, option)
    if name == "linear":
        return value
    if call.words:
        call.words += f" + {_WORDS.get(name, name)}"
    return _written(call, value, name)


def _name(call: LayerCall, option: str) -> str:
    found = call.options.get(option)
    if isinstance(found, dict):  # an activation of Keras' own, as an object
        config = found.get("config")
        found = config if isinstance(config, str) else found.get("class_name")
    name = "linear" if found is None else str(found)
    if name != "linear" and name not in _ACTIVATIONS:
        raise call.refuse(f"has the activation {quoted(name)}, which is not known here")
    return name


def _written(call: LayerCall, value: KerasTensor, name: str) -> KerasTensor:
    if name in _OF_ALL_UNITS:
        plain = _ACTIVATIONS[name](call, call.to.plain(value))
        return call.to.tensor(value.shape, plain=plain)
    return call.to.like(value, _ACTIVATIONS[name](call, call.to.native(value)))


def _activation(call: LayerCall) -> KerasTensor:
    name = _name(call, "activation")
    call.words = _WORDS.get(name, name)
    return call.value if name == "linear" else _written(call, call.value, name)


def _relu(call: LayerCall) -> KerasTensor:
    """Write a ReLU with a slope below, a threshold and a largest value."""
    value, slope = call.value, call.number("negative_slope", 0.0)
    threshold = call.number("threshold", 0.0)
    most = call.options.get("max_value")
    call.words = LayerOp.RELU if most is None else f"{LayerOp.RELU} up to {float(most):g}"
    name = call.to.native(value)
    if slope == 0 and threshold == 0:
        written = call.apply("Relu", [name], "relu") if most is None else _clipped(
            call, name, 0.0, call.number("max_value")
        )  # fmt: skip
        return call.to.like(value, written)
    limit = call.constant("threshold", threshold)
    below = call.apply("Mul", [
        call.apply("Sub", [name, limit], "above"), call.constant("slope", slope)
    ], "below")  # fmt: skip
    high = name if most is None else call.apply(
        "Min", [name, call.constant("most", call.number("max_value"))], "most"
    )  # fmt: skip
    enough = call.apply("GreaterOrEqual", [name, limit], "enough")
    return call.to.like(value, call.apply("Where", [enough, high, below], "relu"))


def _leaky_relu(call: LayerCall) -> KerasTensor:
    slope = "negative_slope" if "negative_slope" in call.options else "alpha"
    call.words = "LeakyReLU"
    written = call.apply(
        "LeakyRelu", [call.to.native(call.value)], "leaky", alpha=call.number(slope, 0.3)
    )
    return call.to.like(call.value, written)


def _prelu(call: LayerCall) -> KerasTensor:
    value = call.value
    shared = call.options.get("shared_axes") or []
    shape = tuple(1 if axis in shared else size for axis, size in enumerate(value.shape, start=1))
    (slope,) = call.take(shape)
    call.words = "PReLU"
    if value.maps is not None and not call.to.channels_first:
        slope = slope.transpose(2, 0, 1)
    return call.to.like(
        value, call.apply("PRelu", [call.to.native(value), call.weight("weight", slope)], "prelu")
    )


def _elu(call: LayerCall) -> KerasTensor:
    call.words = "ELU"
    written = call.apply(
        "Elu", [call.to.native(call.value)], "elu", alpha=call.number("alpha", 1.0)
    )
    return call.to.like(call.value, written)


def _softmax(call: LayerCall) -> KerasTensor:
    if call.named.get("mask") is not None:
        raise call.refuse("is given a mask")
    value = call.value
    axis = call.options.get("axis", -1)
    if not isinstance(axis, int) or axis == 0 or not -len(value.shape) <= axis <= len(value.shape):
        raise call.refuse("has no usable axis")
    call.words = "Softmax"
    plain = call.apply("Softmax", [call.to.plain(value)], "softmax", axis=axis)
    return call.to.tensor(value.shape, plain=plain)


LAYERS: Final[dict[str, Writer]] = {
    "Activation": _activation,
    "ReLU": _relu,
    "ReLU6": lambda call: call.to.like(call.value, _relu6(call, call.to.native(call.value))),
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    "ELU": _elu,
    "Softmax": _softmax,
}
