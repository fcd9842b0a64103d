"""Attention with several heads."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from opsin.importing.keras_graph import KerasTensor
from opsin.importing.keras_layers.layer_call import LayerCall, Writer


def _attention(call: LayerCall) -> KerasTensor:
    query, value, key = _given(call)
    heads, size = call.count("num_heads"), call.count("key_dim")
    wide = size if call.options.get("value_dim") is None else call.count("value_dim")
    out = query.shape[-1]
    if (shape := call.options.get("output_shape")) is not None:
        out = shape[0] if isinstance(shape, list) else call.count("output_shape")
    bias = call.flag("use_bias", True)
    parts = (("query", query, size), ("key", key, size), ("value", value, wide))
    wanted: list[tuple[int, ...] | None] = []
    for _, tensor, each in parts:
        wanted += [(tensor.shape[-1], heads, each), (heads, each) if bias else None]
    found = call.take(*wanted, (heads, wide, out), (out,) if bias else None)
    step = 2 if bias else 1
    weights, biases = found[::step], found[1::2] if bias else [None] * 4
    call.words = f"Attention, {heads} heads"

    def projected(rows: str, place: int, name: str, inputs: int) -> str:
        kernel = call.weight(f"{name}.weight", weights[place].reshape(inputs, -1))
        made, shift = call.apply("MatMul", [rows, kernel], name), biases[place]
        if shift is None:
            return made
        return call.apply("Add", [made, call.weight(f"{name}.bias", shift.reshape(-1))], name)

    in_heads = []
    for place, (name, tensor, each) in enumerate(parts):
        made = projected(call.to.plain(tensor), place, name, tensor.shape[-1])
        into = call.constant(f"{name}.heads", [0, tensor.shape[0], heads, each], np.int64)
        made = call.apply("Reshape", [made, into], f"{name}.heads")
        in_heads.append(call.apply("Transpose", [made], f"{name}.heads", perm=[0, 2, 1, 3]))
        call.multiply_adds += tensor.shape[0] * int(weights[place].size)
    turned = call.apply("Transpose", [in_heads[1]], "key.turned", perm=[0, 1, 3, 2])
    scores = call.apply("MatMul", [in_heads[0], turned], "scores")
    scores = call.apply("Mul", [scores, call.constant("scale", 1 / math.sqrt(size))], "scores")
    shares = call.apply("Softmax", [scores], "shares", axis=-1)
    seen = call.apply("MatMul", [shares, in_heads[2]], "seen")
    rows = call.apply("Transpose", [seen], "rows", perm=[0, 2, 1, 3])
    into = call.constant("joined", [0, query.shape[0], heads * wide], np.int64)
    rows = call.apply("Reshape", [rows, into], "joined")
    call.multiply_adds += query.shape[0] * key.shape[0] * heads * (size + wide)
    call.multiply_adds += query.shape[0] * int(weights[3].size)
    return call.plainly((query.shape[0], out), projected(rows, 3, "output", heads * wide))


def _given(call: LayerCall) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    """Return query, value and key; the key is the value where it is not given."""
    masks = ("query_mask", "value_mask", "key_mask", "attention_mask")
    if any(call.named.get(name) is not None for name in masks):
        raise call.refuse("is given a mask")
    if call.named.get("use_causal_mask") or call.options.get("use_gate"):
        raise call.refuse("attends in a way that is not known here")
    values = call.values
    found = {}
    for name in ("query", "value", "key"):
        given = call.named.get(name)
        if isinstance(given, KerasTensor):
            found[name] = given
        elif values:
            found[name] = values.pop(0)
    if not {"query", "value"} <= found.keys():
        raise call.refuse("is not given query and value")
    query, value = found["query"], found["value"]
    key = found.get("key", value)
    if any(len(each.shape) != 2 for each in (query, value, key)):
        raise call.refuse("is not given rows of places")
    return query, value, key


LAYERS: Final[dict[str, Writer]] = {"MultiHeadAttention": _attention}
