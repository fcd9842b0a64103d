"""Normalising pixels in ONNX Runtime: channels first, as Opsin writes it, against channels last.

    python -m benchmarks.first_layer

Both turn ``uint8[N, H, W, C]`` into normalised ``float32[N, C, H, W]`` by the same four operators
and give the same bits; only their order differs. They take turns, and the quickest of many runs
counts, in microseconds a batch.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SHAPES: Final = ((28, 28, 1), (32, 32, 3), (100, 100, 3))
BATCHES: Final = (1, 16, 256)
_RUNS: Final = 15


def main() -> None:
    """Time both orders and print a table."""
    print(f"{'image':>12}{'batch':>7}{'last, µs':>12}{'first, µs':>12}{'ratio':>8}")
    random = np.random.default_rng(0)
    for shape in SHAPES:
        sessions = [_session(shape, channels_first=first) for first in (False, True)]
        for batch in BATCHES:
            images = random.integers(0, 256, (batch, *shape), np.uint8)
            answers = [session.run(None, {"images": images})[0] for session in sessions]
            if not np.array_equal(*answers):
                raise AssertionError("the two orders give different numbers")
            seconds: list[list[float]] = [[], []]
            for _ in range(_RUNS):
                for session, spent in zip(sessions, seconds, strict=True):
                    began = time.perf_counter()
                    session.run(None, {"images": images})
                    spent.append(time.perf_counter() - began)
            last, first = (1e6 * min(spent) for spent in seconds)
            size = "×".join(map(str, shape))
            print(f"{size:>12}{batch:>7}{last:>12.0f}{first:>12.0f}{first / last:>8.2f}")


def _session(shape: tuple[int, int, int], *, channels_first: bool) -> onnxruntime.InferenceSession:
    channels = shape[2]
    held = (channels, 1, 1) if channels_first else (channels,)
    weights = [
        numpy_helper.from_array(np.full(held, value, np.float32), name)
        for name, value in (("mean", 72.9), ("deviation", 89.2))
    ]
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Cast", [], {"to": TensorProto.FLOAT}),
        ("Sub", ["mean"], {}),
        ("Div", ["deviation"], {}),
    ]
    steps.insert(0 if channels_first else 3, ("Transpose", [], {"perm": [0, 3, 1, 2]}))
    nodes, value = [], "images"
    for number, (kind, further, attributes) in enumerate(steps):
        output = "input" if number == len(steps) - 1 else f"step{number}"
        nodes.append(helper.make_node(kind, [value, *further], [output], **attributes))
        value = output
    graph = helper.make_graph(
        nodes,
        "first layer",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *shape])],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", channels, *shape[:2]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
