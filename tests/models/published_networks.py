"""Small graphs with random weights, made of what exports of published networks are made of."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.onnx_files.made_files import model_file

Array = NDArray[Any]


class Graph:
    def __init__(self, shape: Sequence[int | str]) -> None:
        self._shape = tuple(shape)
        self._random = np.random.default_rng(0)
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, Array] = {}

    def constant(self, value: Any) -> str:
        name = f"held{len(self._weights)}"
        self._weights[name] = np.asarray(value)
        return name

    def weight(self, *shape: int, scale: float = 0.3) -> str:
        return self.constant(self._random.normal(0, scale, shape).astype(np.float32))

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        number = len(self._nodes)
        names = [f"value{number}" + (f".{place}" if place else "") for place in range(outputs)]
        self._nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0]

    def network(self) -> tuple[bytes, Array]:
        """Return the file, and something to put in."""
        nodes = [*self._nodes, helper.make_node("Identity", [self._nodes[-1].output[0]], ["y"])]
        content = model_file(
            nodes, self._weights, ("x", TensorProto.FLOAT, self._shape), {"y": None}
        )
        sides = [side if isinstance(side, int) else 2 for side in self._shape]
        values = np.random.default_rng(1).normal(size=sides).astype(np.float32)
        return content, values

    # Parts that several networks share

    def conv(self, value: str, units: int, of: int, side: int = 3, **attributes: Any) -> str:
        half = side // 2
        held = self.weight(units, of // attributes.get("group", 1), side, side), self.weight(units)
        return self.node("Conv", value, *held, pads=[half] * 4, **attributes)

    def norm(self, value: str, units: int) -> str:
        statistics = [
            self.constant(np.abs(self._random.normal(1, 0.2, units)).astype(np.float32))
            for _ in range(4)
        ]
        return self.node("BatchNormalization", value, *statistics)

    def silu(self, value: str) -> str:
        return self.node("Mul", value, self.node("Sigmoid", value))

    def gelu(self, value: str) -> str:
        root, one, half = (self.constant(np.float32(each)) for each in (2**0.5, 1, 0.5))
        bent = self.node("Erf", self.node("Div", value, root))
        product = self.node("Mul", value, self.node("Add", bent, one))
        return self.node("Mul", product, half)

    def squeezed(self, value: str, units: int) -> str:
        mean = self.node("ReduceMean", value, self.constant(np.array([2, 3])), keepdims=1)
        inner = self.node("Relu", self.conv(mean, 4, units, 1))
        return self.node("Mul", value, self.node("Sigmoid", self.conv(inner, units, 4, 1)))

    def dense(self, value: str, units: int, of: int) -> str:
        return self.node(
            "Add", self.node("MatMul", value, self.weight(of, units)), self.weight(units)
        )

    def layer_norm(self, value: str, units: int, *, whole: bool = True) -> str:
        if whole:
            return self.node("LayerNormalization", value, self.weight(units), self.weight(units))
        axis, two, least = (
            self.constant(each) for each in (np.array([-1]), np.float32(2), np.float32(1e-5))
        )
        centred = self.node("Sub", value, self.node("ReduceMean", value, axis))
        squares = self.node("Pow", centred, two)
        variance = self.node("Add", self.node("ReduceMean", squares, axis), least)
        even = self.node("Div", centred, self.node("Sqrt", variance))
        return self.node("Add", self.node("Mul", even, self.weight(units)), self.weight(units))

    def logits(self, value: str, units: int) -> str:
        mean = self.node("Flatten", self.node("GlobalAveragePool", value), axis=1)
        return self.node("Gemm", mean, self.weight(5, units), self.weight(5), transB=1)


def mobilenet_v4() -> Graph:
    graph = Graph((2, 8, 6, 6))
    start = graph.norm(graph.conv("x", 8, 8, group=8), 8)
    query = graph.node("Reshape", graph.conv(start, 16, 8, 1), graph.constant([0, 2, 8, 36]))
    query = graph.node("Transpose", query, perm=[0, 1, 3, 2])
    keys = graph.conv(graph.conv(start, 8, 8, strides=[2, 2], group=8), 8, 8, 1)
    keys = graph.node("Reshape", keys, graph.constant([0, 1, 8, 9]))
    scores = graph.node("Softmax", graph.node("MatMul", query, keys), axis=-1)
    values = graph.node(
        "Reshape", graph.conv(start, 8, 8, 2, strides=[2, 2]), graph.constant([0, 1, 8, -1])
    )
    size = graph.node("Slice", values, *(graph.constant([each]) for each in (0, 9, 3)))
    moved = graph.node("Transpose", size, perm=[0, 1, 3, 2])
    mixed = graph.node("MatMul", scores, moved)
    mixed = graph.node("Transpose", mixed, perm=[0, 1, 3, 2])
    maps = graph.node("Reshape", mixed, graph.constant([0, 16, 6, 6]))
    scaled = graph.node("Mul", graph.conv(maps, 8, 16, 1), graph.weight(1, 8, 1, 1))
    graph.logits(graph.node("Add", start, scaled), 8)
    return graph


def efficientnet() -> Graph:
    graph = Graph((2, 3, 13, 13))
    first = graph.weight(8, 3, 3, 3), graph.weight(8)
    value = graph.silu(graph.node("Conv", "x", *first, strides=[2, 2], auto_pad="SAME_UPPER"))
    deep = graph.squeezed(graph.silu(graph.norm(graph.conv(value, 8, 8, group=8), 8)), 8)
    graph.logits(graph.node("Add", value, graph.conv(deep, 8, 8, 1)), 8)
    return graph


def convnext() -> Graph:
    graph = Graph((2, 3, 16, 16))
    value = graph.node("Conv", "x", graph.weight(8, 3, 4, 4), graph.weight(8), strides=[4, 4])
    last = graph.node("Transpose", graph.conv(value, 8, 8, 7, group=8), perm=[0, 2, 3, 1])
    wide = graph.node("Gelu", graph.dense(graph.layer_norm(last, 8), 32, 8))
    scaled = graph.node("Mul", graph.dense(wide, 8, 32), graph.weight(8))
    maps = graph.node("Transpose", scaled, perm=[0, 3, 1, 2])
    graph.logits(graph.node("Add", value, maps), 8)
    return graph


def vit() -> Graph:
    return _transformer(whole=False, joined=True)


def dinov2() -> Graph:
    return _transformer(whole=True, joined=False)


def _transformer(*, whole: bool, joined: bool) -> Graph:
    graph = Graph((2, 3, 16, 16))
    patches = graph.node("Conv", "x", graph.weight(8, 3, 4, 4), graph.weight(8), strides=[4, 4])
    patches = graph.node("Reshape", patches, graph.constant([0, 8, -1]))
    tokens = graph.node("Transpose", patches, perm=[0, 2, 1])
    sizes = graph.node("Shape", "x", start=0, end=1)
    wide = graph.node("Concat", sizes, graph.constant([-1, -1]), axis=0)
    ones = graph.node(
        "ConstantOfShape", graph.constant([3]), value=numpy_helper.from_array(np.array([1]))
    )
    open_ = graph.node("Equal", wide, graph.constant(-1))
    token = graph.node("Expand", graph.weight(1, 1, 8), graph.node("Where", open_, ones, wide))
    tokens = graph.node("Concat", token, tokens, axis=1)
    tokens = graph.node("Add", tokens, graph.weight(1, 17, 8))
    value = graph.layer_norm(tokens, 8, whole=whole)
    heads = graph.constant([0, 17, 2, 4])
    if joined:
        three = graph.node("Reshape", graph.dense(value, 24, 8), graph.constant([0, 17, 3, 2, 4]))
        three = graph.node("Transpose", three, perm=[2, 0, 3, 1, 4])
        first = graph.node("Split", three, axis=0, num_outputs=3, outputs=3)
        names = [first, f"{first}.1", f"{first}.2"]
        query, key, of = (graph.node("Squeeze", name, graph.constant([0])) for name in names)
    else:
        query, key, of = (
            graph.node(
                "Transpose",
                graph.node("Reshape", graph.dense(value, 8, 8), heads),
                perm=[0, 2, 1, 3],
            )
            for _ in range(3)
        )
    key = graph.node("Transpose", key, perm=[0, 1, 3, 2])
    scores = graph.node("Mul", graph.node("MatMul", query, key), graph.constant(np.float32(0.5)))
    mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), of)
    mixed = graph.node("Transpose", mixed, perm=[0, 2, 1, 3])
    mixed = graph.dense(graph.node("Reshape", mixed, graph.constant([0, 17, 8])), 8, 8)
    if not joined:
        mixed = graph.node("Mul", mixed, graph.weight(8))
    value = graph.node("Add", tokens, mixed)
    inner = graph.gelu(graph.dense(graph.layer_norm(value, 8, whole=whole), 16, 8))
    value = graph.node("Add", value, graph.dense(inner, 8, 16))
    seen = graph.node("Gather", graph.layer_norm(value, 8, whole=whole), graph.constant(0), axis=1)
    graph.node("Gemm", graph.node("Tanh", seen), graph.weight(5, 8), graph.weight(5), transB=1)
    return graph


#: A block of each by its name.
BLOCKS: Final[dict[str, Callable[[], Graph]]] = {
    each.__name__: each for each in (mobilenet_v4, efficientnet, convnext, vit, dinov2)
}
