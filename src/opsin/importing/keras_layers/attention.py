"""Attention with several heads."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from opsin.importing.keras_graph import KerasTensor
from opsin.importing.keras_layers.layer_call import LayerCall, Writer


def _attention(call: LayerCall) -> KerasTensor:
    query, value, key = _given(call)
    heads, size = call.count("num_heads"), call.count("key_dim")
    wide = size if call.options.get("value_dim") is None else call.count("value_dim")
    units, of_value, of_key = query.shape[-1], value.shape[-1], key.shape[-1]
    given = call.options.get("output_shape")
    out = units
    if given is not None:
        out = given[0] if isinstance(given, list) else call.count("output_shape")
    bias = call.flag("use_bias", True)

    def if_biased(shape: tuple[int, ...]) -> tuple[int, ...] | None:
        return shape if bias else None

    found = call.take(
        (units, heads, size), if_biased((heads, size)),
        (of_key, heads, size), if_biased((heads, size)),
        (of_value, heads, wide), if_biased((heads, wide)),
        (heads, wide, out), if_biased((out,)),
    )  # fmt: skip
    call.words = f"Attention, {heads} heads"
    step = 2 if bias else 1
    weights = found[::step]
    biases = found[1::2] if bias else [None] * 4
    parts = []
    for place, (name, tensor, each) in enumerate(
        (("query", query, size), ("key", key, size), ("value", value, wide))
    ):
        held = (weights[place], biases[place])
        parts.append(_in_heads(call, name, tensor, held, (heads, each)))
        call.multiply_adds += tensor.shape[0] * int(weights[place].size)
    turned = call.apply("Transpose", [parts[1]], "key.turned", perm=[0, 1, 3, 2])
    scores = call.apply("MatMul", [parts[0], turned], "scores")
    scores = call.apply("Mul", [scores, call.constant("scale", 1 / math.sqrt(size))], "scores")
    shares = call.apply("Softmax", [scores], "shares", axis=-1)
    seen = call.apply("MatMul", [shares, parts[2]], "seen")
    rows = call.apply("Transpose", [seen], "rows", perm=[0, 2, 1, 3])
    into = call.constant("joined", [0, query.shape[0], heads * wide], np.int64)
    rows = call.apply("Reshape", [rows, into], "joined")
    call.multiply_adds += query.shape[0] * key.shape[0] * heads * (size + wide)
    call.multiply_adds += query.shape[0] * int(weights[3].size)
    kernel = call.weight("output.weight", weights[3].reshape(heads * wide, out))
    made = call.apply("MatMul", [rows, kernel], "output")
    if bias:
        made = call.apply("Add", [made, call.weight("output.bias", found[-1])], "output")
    return call.to.tensor((query.shape[0], out), plain=made)


def _given(call: LayerCall) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    """Return query, value and key; the key is the value where it is not given."""
    masks = ("query_mask", "value_mask", "key_mask", "attention_mask")
    if any(call.named.get(name) is not None for name in masks):
        raise call.refuse("is given a mask")
    if call.named.get("use_causal_mask") or call.options.get("use_gate"):
        raise call.refuse("attends in a way that is not known here")
    values = call.values
    named = {name: given for name in ("query", "value", "key")
             if isinstance(given := call.named.get(name), KerasTensor)}  # fmt: skip
    for name in ("query", "value", "key"):
        if name not in named and values:
            named[name] = values.pop(0)
    if not {"query", "value"} <= named.keys():
        raise call.refuse("is not given query and value")
    query, value = named["query"], named["value"]
    key = named.get("key", value)
    if any(len(each.shape) != 2 for each in (query, value, key)):
        raise call.refuse("is not given rows of places")
    return query, value, key


def _in_heads(
    call: LayerCall, name: str, value: KerasTensor, held: tuple[Any, Any], shape: tuple[int, int]
) -> str:
    """Write a projection of each place, ``[N, heads, places, size]``."""
    (weight, bias), (heads, size) = held, shape
    kernel = call.weight(f"{name}.weight", weight.reshape(-1, heads * size))
    made = call.apply("MatMul", [call.to.plain(value), kernel], name)
    if bias is not None:
        made = call.apply("Add", [made, call.weight(f"{name}.bias", bias.reshape(-1))], name)
    into = call.constant(f"{name}.heads", [0, value.shape[0], heads, size], np.int64)
    made = call.apply("Reshape", [made, into], f"{name}.heads")
    return call.apply("Transpose", [made], f"{name}.heads", perm=[0, 2, 1, 3])


LAYERS: Final[dict[str, Writer]] = {"MultiHeadAttention": _attention}
