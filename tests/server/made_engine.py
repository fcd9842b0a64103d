"""An engine for tests, what it told its observer, and classifiers and images for it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from onnx import helper

from opsin.server import ServerSettings
from opsin.server.app import Application
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


Kind = TypeVar("Kind")


class Asks:
    def __init__(self, app: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.app, self._loop = app, loop
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")

    def run(self, work: Coroutine[Any, Any, Kind]) -> Kind:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.get(path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.post(path, **options))


class Host:
    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine, self.loop = engine, loop

    def asks(self, settings: ServerSettings | None = None) -> Asks:
        return Asks(Application(self.engine, settings or ServerSettings()), self.loop)


@contextlib.contextmanager
def hosting(models: dict[str, Path], **options: Any) -> Iterator[Host]:
    loop = asyncio.new_event_loop()
    engine = Engine(models, ServerSettings(workers=1, **options))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(60)

    try:
        run(engine.start())
        try:
            yield Host(engine, loop)
        finally:
            run(engine.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
