"""A server in this process: the real engine, asked through ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opsin.server.app import Application, build_app
from opsin.server.engine import Engine
from opsin.server.measures import Measures
from opsin.server.settings import Settings

TOKEN = "q3Zr0pY8mVnWc5xKd7TsLb2HfJ6gUeAi"
Kind = TypeVar("Kind")


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a grey picture ``uint8[H, W]`` as a file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Asks:
    """Asks an application that lives on an event loop of its own."""

    def __init__(self, app: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.app, self._loop = app, loop
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")

    def run(self, work: Coroutine[Any, Any, Kind]) -> Kind:
        """Wait for work on the application's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.get(path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.post(path, **options))


@contextlib.contextmanager
def serving(models: dict[str, Path], settings: Settings | None = None) -> Iterator[Asks]:
    """Run a server with these models, and yield what asks it."""
    settings = settings or Settings()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def build() -> Application:
        measures = Measures()
        engine = Engine(
            models, workers=1, queue=settings.queue, deadline=settings.deadline, observer=measures
        )
        await engine.start()
        return build_app(engine, settings, measures)

    try:
        asks = Asks(asyncio.run_coroutine_threadsafe(build(), loop).result(60), loop)
        yield asks
        asks.run(asks.app.engine.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
