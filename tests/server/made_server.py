"""A server in this process: the real engine, asked through ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

from opsin.server import ServerSettings
from opsin.server.app import Application
from opsin.server.engine import Engine

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
