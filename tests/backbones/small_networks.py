"""Small networks with random weights, in the forms that exporters give them."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_files.made_files import model_file

SIDE = 32
UNITS = 16


def network(  # noqa: C901, PLR0915  one form an option
    *,
    batch: str | int = "N",
    channels_last: bool = False,
    head: str = "softmax",
    constants: bool = False,
    half: bool | str = False,
    inside: str = "",
    opset: int = 17,
    reshape: str = "flatten",
    side: int | str = SIDE,
    bgr: bool = False,
) -> bytes:
    """Return two convolutions, a mean and a head, always with the same weights.

    ``half`` may be ``within``: it takes and gives 32 bits, and what casts them is listed last.
    """
    random = np.random.default_rng(1)
    kind = np.float16 if half else np.float32
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, Any] = {}

    def weight(name: str, value: Any, dtype: Any = kind) -> str:
        array = np.asarray(value, dtype)
        if constants:
            held = numpy_helper.from_array(array, name)
            nodes.append(helper.make_node("Constant", [], [name], value=held))
        else:
            weights[name] = array
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    value = "pixels"
    late: list[onnx.NodeProto] = []
    if half == "within":
        late.append(helper.make_node("Cast", [value], ["halves"], to=TensorProto.FLOAT16))
        value = "halves"
    if channels_last:
        value = node("Transpose", [value], "maps", perm=[0, 3, 1, 2])
    if bgr:
        order = weight("order", [2, 1, 0], np.int64)
        value = node("Gather", [value, order], "turned", axis=1)
    if inside == "scaling":
        value = node("Div", [value, weight("by", 127.5)], "divided")
        value = node("Sub", [value, weight("one", 1.0)], "scaled")
    first = random.normal(0, 0.4, (8, 3, 3, 3))
    second = random.normal(0, 0.2, (UNITS, 8, 3, 3))
    for place, array in enumerate((first, second), 1):
        held = [weight(f"w{place}", array), weight(f"b{place}", np.zeros(len(array)))]
        value = node("Conv", [value, *held], f"conv{place}", strides=[2, 2], pads=[1, 1, 1, 1])
        value = node("Relu", [value], f"relu{place}")
    value = node("GlobalAveragePool", [value], "pool")
    dense = random.normal(0, 0.5, (UNITS, 10))
    if head == "conv":
        kernel = weight("dense", dense.T.reshape(10, UNITS, 1, 1))
        value = node("Conv", [value, kernel], "logits.maps")
    if reshape == "flatten":
        value = node("Flatten", [value], "flat", axis=1)
    elif reshape == "constant":
        rows = batch if isinstance(batch, int) else 0
        value = node("Reshape", [value, weight("to", [rows, -1], np.int64)], "flat")
    else:
        shape = node("Shape", [value], "sizes")
        count = node("Gather", [shape, weight("zero", 0, np.int64)], "count")
        axes = weight("axes", [0], np.int64)
        count = node("Unsqueeze", [count, axes], "rows")
        to = node("Concat", [count, weight("rest", [-1], np.int64)], "to", axis=0)
        value = node("Reshape", [value, to], "flat")
    if head in ("softmax", "logits"):
        held = [weight("dense", dense), weight("bias", np.zeros(10))]
        value = node("Gemm", [value, *held], "logits")
    if head == "softmax":
        value = node("Softmax", [value], "answers", axis=1)
    if half == "within":
        late.append(helper.make_node("Cast", [value], ["wide"], to=TensorProto.FLOAT))
        value = "wide"
    sides = [side, side]
    shape_of = [batch, *sides, 3] if channels_last else [batch, 3, *sides]
    tensor = TensorProto.FLOAT16 if half is True else TensorProto.FLOAT
    images = ("pixels", tensor, shape_of)
    return model_file([*nodes, *late], weights, images, {value: None}, kind=tensor, opset=opset)
