"""A place of a map depends on the pixels of its receptive field, and on no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from opsin.onnx_files.onnx_graph import receptive_fields
from tests.onnx_files.made_files import model_file

SIDE = 16
CONV: dict[str, Any] = {"op": "Conv"}


@pytest.mark.parametrize(
    "layers",
    [
        [CONV | {"pads": [1, 2, 0, 1]}, CONV | {"strides": [2, 2]}],
        [CONV | {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, CONV | {"auto_pad": "SAME_LOWER"}],
        [CONV | {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, CONV | {"auto_pad": "VALID"}],
        [{"op": "Pad"}, CONV | {"strides": [2, 2]}],
        [{"op": "MaxPool", "kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
         CONV | {"dilations": [2, 2]}],
    ],
)  # fmt: skip
def test_its_border_is_where_pixels_begin_to_matter(layers: list[dict[str, Any]]) -> None:
    weights: dict[str, NDArray[Any]] = {
        "weight": np.ones((1, 1, 3, 3), np.float32),
        "pads": np.array([0, 0, 2, 1, 0, 0, 1, 2]),
    }
    nodes, value = [], "images"
    for place, layer in enumerate(layers):
        options = {key: given for key, given in layer.items() if key != "op"}
        held = {"Conv": ["weight"], "Pad": ["pads"]}.get(layer["op"], [])
        name = "end" if place == len(layers) - 1 else f"layer{place}"
        nodes.append(helper.make_node(layer["op"], [value, *held], [name], **options))
        value = name
    images = ("images", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])
    content = model_file(nodes, weights, images, {"end": None}, opset=18)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    # Each image has one pixel that is not 0: where the answer is not 0 either, it was seen.
    pixels = np.eye(SIDE * SIDE, dtype=np.float32).reshape(-1, 1, SIDE, SIDE)
    (seen,) = session.run(["end"], {"images": pixels})
    seen = seen[:, 0].reshape(SIDE, SIDE, *seen.shape[2:])
    field = receptive_fields(nodes, weights)["end"]
    assert field is not None
    for y, x in np.ndindex(seen.shape[2:]):
        rows, columns = np.nonzero(seen[:, :, y, x])
        box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert field.box(y, x, (SIDE, SIDE)) == box
