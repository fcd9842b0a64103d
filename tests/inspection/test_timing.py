"""Each layer's time is measured, its own operators counted and no others."""

from __future__ import annotations

import numpy as np
import onnx

from opsin.core.metadata import Layer
from opsin.inspection.summary import layer_seconds

# The layer "heavy" multiplies large matrices under names of its own; the end does so for no layer.
_UNEVEN = """
<ir_version: 9, opset_import: ["" : 20]>
network (uint8[n, 400] images) => (float[n, 400] answer)
<float[400, 400] square> {
    pixels = Cast <to = 1> (images)
    input = Relu (pixels)
    first = MatMul (input, square)
    second = MatMul (first, square)
    heavy = Relu (second)
    light = Relu (heavy)
    third = MatMul (light, square)
    fourth = MatMul (third, square)
    answer = MatMul (fourth, square)
}
"""


def layer(name: str) -> Layer:
    return Layer(name=name, kind="x", shape=(1,), parameters=0, trainable=0, multiply_adds=0)


def uneven() -> bytes:
    model = onnx.parser.parse_model(_UNEVEN)
    square = np.full((400, 400), 0.01, np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(square, "square"))
    content: bytes = model.SerializeToString()
    return content


def test_operators_count_for_the_layer_that_they_lead_to() -> None:
    layers = [layer(name) for name in ("input", "heavy", "light")]
    images = np.random.default_rng(0).integers(0, 256, (32, 400), np.uint8)
    seconds = layer_seconds(uneven(), layers, images)
    assert list(seconds) == ["input", "heavy", "light"]
    assert seconds["heavy"] > seconds["input"] + seconds["light"] > 0
    # Without the layer that they led to, they lead to the next.
    again = layer_seconds(uneven(), [layers[0], layers[2]], images)
    assert again["light"] > again["input"]
    # What lies behind the last layer counts for none.
    alone = layer_seconds(uneven(), layers[:1], images)
    assert alone["input"] < again["light"]
