"""An engine for tests, what it told its observer, and classifiers and images for it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import opsin
from opsin.core.metadata import Layer, Metadata, Preparation, Reject
from opsin.server import ServerSettings
from opsin.server.engine import Engine
from opsin.server.metrics import ServerMetrics
from opsin.web.refusals import RequestError


class Listener(ServerMetrics):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Any, ...]] = []

    def batch(self, model: str, images: int) -> None:
        self.told.append(("batch", model, images))

    def refused(self, reason: str | RequestError) -> None:
        self.told.append(("refused", reason))

    def answered(self, model: str, label: str, confidence: float) -> None:
        self.told.append(("answered", model, label))

    def worker_died(self) -> None:
        self.told.append(("died",))

    def reloaded(self, model: str, ok: bool) -> None:
        self.told.append(("reloaded", model, ok))

    def count(self, *what: Any) -> int:
        """Return how often something was told; what is left out at the end may be anything."""
        return sum(each[: len(what)] == what for each in self.told)


@contextlib.asynccontextmanager
async def running(models: dict[str, Path], **options: Any) -> AsyncIterator[Engine]:
    metrics = options.pop("metrics", None)
    settings = ServerSettings(**{"workers": 1, **options})
    engine = Engine(models, settings, metrics=metrics, poll_seconds=0.05)
    await engine.start()
    try:
        yield engine
    finally:
        async with asyncio.timeout(20):
            await engine.stop()


def pids(engine: Engine) -> list[int]:
    return [worker.process.pid for worker in engine._pool.workers if worker.process]


async def until(condition: Callable[[], bool], seconds: float = 20) -> float:
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
    return time.monotonic() - began


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    return file.getvalue()


@functools.cache
def large(seed: int = 0) -> bytes:
    """Return an image that takes a while: 36 million pixels."""
    return png(np.full((6000, 6000), seed, np.uint8))


def write_leaning(path: Path, *, lean: float, mean: float = 0.0) -> Path:
    """Write a classifier.onnx whose answers lean on what else is in the batch.

    Args:
        path: Where to.
        lean: How much; 0 makes it an ordinary one.
        mean: What its first layer takes away from each pixel.
    """
    weights = {
        "mean": np.float32(mean),
        "scale": np.float32(1 / 255),
        "lean": np.float32(lean),
        "weight": np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32),
        "rows": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["input"], perm=[0, 3, 1, 2]),
        helper.make_node("Flatten", ["input"], ["flatten"]),
        helper.make_node("MatMul", ["flatten", "weight"], ["head"]),
        helper.make_node("ReduceMean", ["head", "rows"], ["usual"]),
        helper.make_node("Mul", ["usual", "lean"], ["leaning"]),
        helper.make_node("Add", ["head", "leaning"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "leaning",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 4, 4, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    layer = Layer(
        name="input", kind="Normalise", shape=(1, 4, 4), parameters=0, trainable=0, multiply_adds=0
    )
    metadata = Metadata(
        opsin=opsin.__version__,
        model="mlp",
        classes=("a", "b", "c"),
        preparation=Preparation(height=4, width=4, channels=1, resize="fit"),
        layers=(layer,),
        source="made",
        fingerprint="made",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, metadata.to_props())
    onnx.save_model(model, path)
    return path


def write_refusing(path: Path, plain: Path, classes: Sequence[str] = ()) -> Path:
    """Write a copy of the nearest-mean classifier that refuses whoever it is not sure about.

    Args:
        path: Where it is written.
        plain: The fixture's file.
        classes: Other names for its classes.
    """
    model = onnx.load_model(plain)
    graph = model.graph
    graph.node.extend([
        helper.make_node("ReduceMax", ["probabilities", "last"], ["highest"], keepdims=0),
        helper.make_node("Sub", ["one", "highest"], ["ood_score"]),
    ])  # fmt: skip
    graph.initializer.append(helper.make_tensor("last", TensorProto.INT64, [1], [1]))
    graph.initializer.append(helper.make_tensor("one", TensorProto.FLOAT, [], [1]))
    graph.output.append(helper.make_tensor_value_info("ood_score", TensorProto.FLOAT, ["N"]))
    props = {each.key: each.value for each in model.metadata_props}
    metadata = Metadata.from_props(props, "plain").model_copy(
        update={"reject": Reject(max_ood_score=0.8, rate=0.01, images=100)}
        | ({"classes": tuple(classes)} if classes else {})
    )
    helper.set_model_props(model, metadata.to_props())
    onnx.save_model(model, path)
    return path
