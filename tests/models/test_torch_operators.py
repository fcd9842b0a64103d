"""Operators of published networks answer as ONNX Runtime does, and their weights go back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from opsin.core.errors import ModelFileError
from opsin.onnx_files.onnx_graph import OnnxGraph
from tests.models.published_networks import BLOCKS, Graph
from tests.onnx_files.made_files import computed

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

Array = NDArray[Any]


def by_onnxruntime(content: bytes, values: Array) -> Array:
    found: Array = computed(content, x=values)["y"]
    return found


def by_torch(content: bytes, values: Array) -> Array:
    from opsin.models.onnx_network import TorchNetwork

    with torch.inference_mode():
        network = TorchNetwork(content, source="x", target="y")
        found: Array = network(torch.from_numpy(values)).numpy()
    return found


def compare(content: bytes, values: Array) -> Array:
    expected, found = by_onnxruntime(content, values), by_torch(content, values)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    return expected


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_answer_as_onnx_runtime_does_and_trained_weights_go_back(name: str) -> None:
    from opsin.models.onnx_network import TorchNetwork

    content, values = BLOCKS[name]().network()
    before = compare(content, values)
    network = TorchNetwork(content, source="x", target="y", learns=True)
    optimizer = torch.optim.SGD(list(network.learnt().values()), lr=0.01)
    network(torch.from_numpy(values)).square().mean().backward()
    learnt = network.learnt()
    assert learnt and all(value.grad is not None for value in learnt.values())
    optimizer.step()
    again = OnnxGraph(content, layers=()).with_weights(network.weights())
    expected = compare(again, values)
    assert np.abs(expected - before).max() > 1e-5
    with torch.inference_mode():
        found = network(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
    names = [[node.output[0] for node in OnnxGraph(each, ()).nodes] for each in (content, again)]
    assert names[0] == names[1]


RESIZED = [
    (mode, scales, antialias, coordinates)
    for mode, scales in (
        ("linear", [1, 1, 0.875, 0.5]),
        ("linear", [1, 1, 1.3, 2]),
        ("cubic", [1, 1, 0.6, 1.7]),
        ("nearest", [1, 1, 2, 0.5]),
    )
    for antialias in ((0,) if mode == "nearest" else (0, 1))
    for coordinates in ("half_pixel", "pytorch_half_pixel")
]


@pytest.mark.parametrize(("mode", "scales", "antialias", "coordinates"), RESIZED)
def test_images_change_their_size_as_in_onnx_runtime(
    mode: str, scales: list[float], antialias: int, coordinates: str
) -> None:
    options = {"coordinate_transformation_mode": coordinates, "nearest_mode": "round_prefer_ceil"}
    held, shape = np.array(scales, np.float32), (2, 3, 16, 20)
    graph = one("Resize", "x", ..., held, shape=shape, mode=mode, antialias=antialias, **options)
    compare(*graph.network())


def test_attributes_that_matter_in_another_mode_are_passed_over() -> None:
    for mode, refused in (("linear", False), ("nearest", True)):
        held = np.array([1, 1, 2, 2], np.float32)
        content, values = one("Resize", "x", ..., held, mode=mode, nearest_mode="floor").network()
        if refused:
            with pytest.raises(ModelFileError, match="Resize"):
                by_torch(content, values)
        else:
            compare(content, values)


def one(op: str, *inputs: Any, shape: Sequence[int] = (2, 6, 8, 8), **attributes: Any) -> Graph:
    """Return a graph of one operator; arrays are weights, ``...`` is an input left out."""
    graph = Graph(shape)
    names = [
        "" if each is ... else each if isinstance(each, str) else graph.constant(each)
        for each in inputs
    ]
    graph.node(op, *names, **attributes)
    return graph


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def floats(*shape: int) -> Array:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


SINGLE: dict[str, Graph] = {
    "slice from the end": one("Slice", "x", ints(-1), ints(-9), ints(3), ints(-1)),
    "slice in steps": one("Slice", "x", ints(1, 0), ints(99, -1), ints(2, 3), ints(3, 2)),
    "gather one": one("Gather", "x", np.array(-1), axis=1),
    "gather some": one("Gather", "x", np.array([[0, 2], [1, -2]]), axis=2),
    "pad by a number": one("Pad", "x", ints(0, 1, 0, 0, 0, 0, 0, 2), np.float32(3)),
    "conv like tensorflow": one("Conv", "x", floats(4, 6, 3, 3), auto_pad="SAME_UPPER",
                                strides=[2, 2]),
    "conv with lower pads": one("Conv", "x", floats(4, 6, 2, 2), auto_pad="SAME_LOWER"),
    "conv in groups, dilated": one("Conv", "x", floats(9, 2, 3, 3), floats(9), group=3,
                                   dilations=[2, 2], pads=[2, 2, 2, 2]),
    "conv along a line": one("Conv", "x", floats(4, 6, 3), pads=[0, 2], shape=(2, 6, 9)),
    "mean with pads": one("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
                          strides=[2, 2]),
    "mean with pads that count": one("AveragePool", "x", kernel_shape=[3, 3], pads=[0, 0, 1, 1],
                                     strides=[2, 2], count_include_pad=1),
    "mean with uneven pads": one("AveragePool", "x", kernel_shape=[3, 3], pads=[0, 0, 1, 1],
                                 strides=[2, 2]),
    "maximum like tensorflow": one("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2],
                                   auto_pad="SAME_UPPER"),
    "maximum with uneven pads": one("MaxPool", "x", kernel_shape=[2, 2], strides=[1, 2],
                                    pads=[0, 1, 1, 0]),
    "conv with uneven pads": one("Conv", "x", floats(2, 6, 3, 2), pads=[1, 0, 0, 2],
                                 strides=[2, 1]),
    "greatest place": one("GlobalMaxPool", "x"),
    "instance norm": one("InstanceNormalization", "x", floats(6), floats(6)),
    "layer norm over maps": one("LayerNormalization", "x", floats(6, 8, 8), axis=1),
    "sum of rows": one("ReduceSum", "x", ints(3), keepdims=0),
    "largest of rows": one("ReduceMax", "x", ints(2, 3), keepdims=0),
    "sum of several": one("Sum", "x", floats(6, 1, 1), floats(1)),
    "reduce all": one("ReduceMean", "x", keepdims=0),
    "reduce nothing": one("ReduceMean", "x", ints(), noop_with_empty_axes=1),
    "flatten from 2": one("Flatten", "x", axis=2),
    "flatten all": one("Flatten", "x", axis=0),
    "expand": one("Expand", "x", ints(2, 1, 6, 4), shape=(1, 6, 4)),
    "reshape": one("Reshape", "x", ints(0, 2, -1, 4)),
    "transposed": one("Transpose", "x"),
    "squeeze": one("Squeeze", "x", ints(-1), shape=(2, 3, 1)),
    "unsqueeze": one("Unsqueeze", "x", ints(0, -1), shape=(2, 3)),
    "leaky by channel": one("PRelu", "x", floats(6, 1, 1)),
    "hard sigmoid": one("HardSigmoid", "x", alpha=1 / 6),
    "power": one("Pow", "x", np.float32(3)),
    "gemm": one("Gemm", "x", floats(7, 5), floats(7), transB=1, alpha=0.5, beta=2.0, shape=(3, 5)),
    "clip below": one("Clip", "x", np.float32(0.1)),
    "clip above": one("Clip", "x", ..., np.float32(0.1)),
    "mean of several": one("Mean", "x", floats(6, 1, 1), floats(1)),
    "largest of several": one("Max", "x", floats(6, 1, 1), np.float32(0)),
    "smallest of several": one("Min", "x", floats(6, 1, 1), np.float32(0)),
    "nothing is dropped": one("Dropout", "x"),
    "softmax of channels": one("Softmax", "x", axis=1),
    "log softmax": one("LogSoftmax", "x"),
}  # fmt: skip


FUNCTIONS = ["Abs", "Celu", "Elu", "Erf", "Exp", "Gelu", "HardSwish", "LeakyRelu", "Mish", "Neg",
             "Relu", "Selu", "Sigmoid", "Softplus", "Tanh"]  # fmt: skip
SINGLE |= {op: one(op, "x") for op in FUNCTIONS}
for op in ("Log", "Sqrt"):  # of positive numbers
    SINGLE[op] = one("Abs", "x")
    SINGLE[op].node(op, "value0")
for op in ("Greater", "GreaterOrEqual", "Less", "Equal"):
    SINGLE[op] = one(op, "x", np.float32(0.2))
    SINGLE[op].node("Where", "value0", "x", SINGLE[op].constant(np.float32(-1)))


@pytest.mark.parametrize("name", SINGLE)
def test_single_operators_answer_as_onnx_runtime_does(name: str) -> None:
    compare(*SINGLE[name].network())


def test_sizes_are_computed_as_in_onnx_runtime() -> None:
    graph = Graph((2, 6, 4, 8))
    shape = graph.node("Shape", "x", start=1, end=3)
    channels = graph.node("Gather", shape, graph.constant(np.array(0)), axis=0)
    half = graph.node("Div", channels, graph.constant(np.array(4)))  # 6 / 4, whole
    rows = graph.node("Mul", graph.node("Mul", channels, graph.constant(np.array(4))), half)
    joined = graph.node(
        "Concat",
        graph.node("Unsqueeze", rows, graph.constant(ints(0))),
        graph.constant(ints(-1)),
        axis=0,
    )
    value = graph.node("Reshape", "x", joined)
    filled = graph.node(
        "ConstantOfShape",
        graph.node("Shape", value),
        value=numpy_helper.from_array(np.array([2.5], np.float32)),
    )
    graph.node("Mul", value, filled)
    compare(*graph.network())


def test_numbers_of_16_bits_are_computed_with_32() -> None:
    graph = Graph((2, 5))
    half = graph.node("Cast", "x", to=TensorProto.FLOAT16)
    product = graph.node("MatMul", half, graph.constant(floats(5, 3).astype(np.float16)))
    graph.node("Cast", product, to=TensorProto.FLOAT)
    content, values = graph.network()
    np.testing.assert_allclose(
        by_torch(content, values), by_onnxruntime(content, values), atol=0.02
    )


def test_every_operator_has_a_test() -> None:
    from opsin.models.torch_operators import COMPUTED

    here = Path(__file__).read_text("utf-8")
    contents = [BLOCKS[name]().network()[0] for name in BLOCKS]
    used = {node.op_type for each in contents for node in onnx.load_from_string(each).graph.node}
    elsewhere = {"Identity", "ReduceSumSquare"}  # test_onnx_network.py
    missing = {name for name in COMPUTED if f'"{name}"' not in here} - used - elsewhere
    assert not missing


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Hardmax", (), {}),
        ("Pad", (ints(0, 0, 1, 2, 0, 0, 3, 0),), {"mode": "reflect"}),
        ("Resize", (..., np.array([1, 1, 2, 2], np.float32)),
         {"coordinate_transformation_mode": "align_corners"}),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_named(
    op: str, inputs: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    with pytest.raises(ModelFileError, match=f"its operator {op} has none"):
        by_torch(*one(op, "x", *inputs, **attributes).network())


def test_what_is_no_weight_stays_as_it_is() -> None:
    from opsin.models.onnx_network import TorchNetwork

    graph = Graph((2, 6, 8, 8))
    held = [graph.constant(each) for each in (*floats(2, 6), floats(6), np.ones(6, np.float32))]
    value = graph.node("BatchNormalization", "x", *held)
    value = graph.node("Clip", value, graph.constant(np.float32(0)), graph.constant(np.float32(6)))
    value = graph.node("Mul", value, graph.constant(np.array([0.5], np.float32)))
    graph.node("Sub", value, graph.constant(floats(6, 1, 1)))
    content, _ = graph.network()
    network = TorchNetwork(content, source="x", target="y", learns=True)
    assert list(network.learnt()) == held[:2]
    assert not TorchNetwork(content, source="x", target="y").learnt()
