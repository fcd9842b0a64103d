"""Who has gone is noticed, and frees the place; whoever is there costs next to nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from opsin.data.dataset import Dataset
from opsin.server import disconnects
from opsin.server.disconnects import CancelOnDisconnect
from opsin.server.predict_requests import ImageToAnswer
from tests.server.made_engine import png, until
from tests.server.made_server import Asks, Host


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disconnects, "LOOK_AFTER", 0.05)


async def gone() -> dict[str, Any]:
    await asyncio.sleep(0.05)
    return {"type": "http.disconnect"}


def test_a_block_ends_once_the_client_has_gone() -> None:
    messages = iter(["http.request", "http.disconnect"])

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def main() -> None:
        async with asyncio.timeout(10):
            with pytest.raises(ClientDisconnect):
                async with CancelOnDisconnect(receive):
                    await asyncio.sleep(60)
            await asyncio.sleep(0.01)  # and nothing is left of it
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    asyncio.run(main())


def test_who_is_answered_at_once_is_not_looked_for() -> None:
    looked = 0

    async def receive() -> dict[str, Any]:
        nonlocal looked
        looked += 1
        return await gone()

    async def main() -> None:
        async with CancelOnDisconnect(receive):
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        with pytest.raises(ZeroDivisionError):
            async with CancelOnDisconnect(receive):
                raise ZeroDivisionError
        await asyncio.sleep(0.1)

    asyncio.run(main())
    assert not looked


def test_who_is_cancelled_by_others_stays_cancelled() -> None:
    async def wait() -> None:
        async with CancelOnDisconnect(gone):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await wait()

    asyncio.run(main())


async def come_and_go(asks: Asks, path: str, kind: bytes, body: bytes) -> list[Any]:
    """Send a request, wait until it waits, and go."""
    engine, sent, leaving = asks.app.engine, [], asyncio.Event()
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await leaving.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1:8000"), (b"content-type", kind)]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": headers, "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip
    asking = asyncio.create_task(asks.app(scope, receive, send))
    await until(lambda: engine.load.waiting == 1)
    leaving.set()
    await until(lambda: engine.load.waiting == 0, 10)  # the deadline is 30 s
    await asking
    return sent


@pytest.mark.parametrize("path", ["/predict", "/v2/models/digits/infer"])
def test_who_goes_frees_the_place(host: Host, digits: Dataset, path: str) -> None:
    image = png(digits.images[0][:, :, 0])
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 1], "data": [0] * 64}
    kind, body = b"image/png", image
    if path.startswith("/v2"):
        kind, body = b"application/json", json.dumps({"inputs": [tensor]}).encode()
    asks = host.asks()

    async def main() -> None:
        for pid in host.engine.pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            first = asyncio.create_task(host.engine.predict("digits", [ImageToAnswer(image)]))
            await until(lambda: host.engine.load.computing == 1)
            sent = await come_and_go(asks, path, kind, body)
        finally:
            for pid in host.engine.pids:
                os.kill(pid, signal.SIGCONT)
        await first
        assert [each for each in sent if each.get("status") not in (None, 499)] == []

    asks.run(main())
    counted = [line for line in asks.get("/metrics").text.splitlines() if 'status="499"' in line]
    assert [line for line in counted if f'route="{path.replace("digits", "{model}")}"' in line]
