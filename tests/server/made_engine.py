"""An engine for tests, what it told its observer, and classifiers and images for it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from opsin.server import ServerSettings
from opsin.server.engine import Engine
from opsin.server.metrics import ServerMetrics
from opsin.web.refusals import RequestError
from tests.made_classifier import LAST, classifier, metadata
from tests.served import encoded


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


def computing(engine: Engine) -> int:
    """Return how many images its workers have."""
    return len(engine._open) - engine.waiting


async def until(condition: Callable[[], bool], seconds: float = 20) -> float:
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
    return time.monotonic() - began


def png(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(pixels.squeeze())


@functools.cache
def large(seed: int = 0) -> bytes:
    """Return an image that takes a while: 36 million pixels."""
    return png(np.full((6000, 6000), seed, np.uint8))


def write_leaning(path: Path, lean: float) -> Path:
    """Write a classifier.onnx whose answers lean that much on what else is in the batch."""
    node = helper.make_node
    content = classifier(
        LAST[1],
        node("ReduceMean", ["head", "rows"], ["usual"]),
        node("Mul", ["usual", "lean"], ["leaning"]),
        node("Add", ["head", "leaning"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"]),
        weights={"rows": np.array([0], np.int64), "lean": np.array(lean, np.float32)},
        images=("N", 4, 4, 1),
        about=metadata(side=4),
    )
    path.write_bytes(content)
    return path
