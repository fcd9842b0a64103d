"""Along which axis the images of a network for one image lie."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from opsin.backbones.probe import batch_axes

CASES = {
    "rows merged": ([helper.make_node("Reshape", ["x", "merged"], ["y"])], 0),
    "turned, then merged with heads": (
        [helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
         helper.make_node("Reshape", ["turned", "heads"], ["y"])],
        1,
    ),
    "flattened": ([helper.make_node("Flatten", ["x"], ["y"], axis=1)], 0),
    "an axis before it": ([helper.make_node("Unsqueeze", ["x", "zero"], ["y"])], 1),
    "an axis behind it": ([helper.make_node("Unsqueeze", ["x", "last"], ["y"])], 0),
    "one before it gone": (
        [helper.make_node("Unsqueeze", ["x", "zero"], ["more"]),
         helper.make_node("Squeeze", ["more", "zero"], ["y"])],
        0,
    ),
    "one of several": (
        [helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
         helper.make_node("Gather", ["turned", "scalar"], ["y"], axis=0)],
        0,
    ),
    "the mean of tokens": (
        [helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
         helper.make_node("ReduceMean", ["turned", "zero"], ["y"], keepdims=0)],
        0,
    ),
    "beside more axes": ([helper.make_node("Add", ["x", "wide"], ["y"])], 1),
}  # fmt: skip
WEIGHTS = {
    "merged": np.array([4, 6]), "heads": np.array([4, 2, 3]), "zero": np.array([0]),
    "last": np.array([-1]), "scalar": np.array(2), "wide": np.ones((2, 1, 4, 6), np.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_where_two_images_make_a_difference(name: str) -> None:
    nodes, expected = CASES[name]
    values = [output for node in nodes for output in node.output]
    held = [numpy_helper.from_array(value, key) for key, value in WEIGHTS.items()]
    outputs = [helper.make_empty_tensor_value_info(value) for value in values]
    entry = helper.make_tensor_value_info("x", 1, ["N", 4, 6])
    graph = helper.make_graph(nodes, "g", [entry], outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    one = session.run(values, {"x": np.ones((1, 4, 6), np.float32)})
    shapes = {
        "x": (1, 4, 6),
        **{key: np.shape(value) for key, value in zip(values, one, strict=True)},
    }
    constants = {key: value.ravel().tolist() for key, value in WEIGHTS.items() if key != "wide"}
    found = batch_axes(nodes, "x", shapes, constants)["y"]
    assert found == expected
    if not any(node.op_type == "Reshape" for node in nodes):  # those hold one image until opened
        two = session.run(["y"], {"x": np.ones((2, 4, 6), np.float32)})[0]
        assert two.shape[found] == 2 * shapes["y"][found]


def test_what_has_lost_the_images_has_no_axis() -> None:
    nodes = [helper.make_node("Gather", ["x", "scalar"], ["y"], axis=0)]
    assert "y" not in batch_axes(nodes, "x", {"x": (1, 4), "y": (4,)}, {})
