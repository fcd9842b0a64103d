"""Ports are taken, or it is said why not; slow, endless and broken clients come to an end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from opsin.core.errors import RecipeError
from opsin.web import listening as connections
from opsin.web.listening import ConnectionLimits, listening

pytest.importorskip("uvloop")
pytestmark = pytest.mark.anyio

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Client]]
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.3)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body; /refuse does not read it, /large answers at length."""
    content = b""
    if scope["path"] == "/large":
        content = bytes(50_000_000)
    elif scope["path"] != "/refuse":
        more, length = True, 0
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length += len(message["body"])
            more = message["more_body"]
        content = str(length).encode()
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}  # the server's own kind of loop


@pytest.fixture
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Connections to a real socket, behind which an application is served."""
    app, ws, limits = getattr(request, "param", (echo, "none", {}))
    limit = ConnectionLimits(**limits)
    # A connection without a request may stay longer than any test waits.
    config = uvicorn.Config(
        limit.around(app),
        http=limit.protocol,  # type: ignore[arg-type]
        ws=ws,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=120,
    )
    server, writers = uvicorn.Server(config), list[asyncio.StreamWriter]()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = held.getsockname()
        held.listen()
        running = asyncio.create_task(server._serve([held]))

        async def opened() -> Client:
            reader, writer = await asyncio.open_connection(*address)
            writers.append(writer)
            return reader, writer

        yield opened
        for writer in writers:
            writer.close()
        async with asyncio.timeout(30):
            while limit.open:
                await asyncio.sleep(0.01)
        server.should_exit = True
        await asyncio.wait_for(running, 30)


def served(app: Any = echo, ws: Any = "none", **limits: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("connect", [(app, ws, limits)], indirect=True)


async def ends(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 30)
    return b""


async def test_ordinary_requests_one_after_another(connect: Connect) -> None:
    reader, writer = await connect()
    for length in (0, 5, 200_000):
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % length + bytes(length))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(len(str(length))) == str(length).encode()
        await asyncio.sleep(0.4)  # longer than headers may take: between requests one may wait


async def test_requests_that_are_refused_before_their_bodies_have_come(connect: Connect) -> None:
    refuse = HEAD.replace(b"/", b"/refuse", 1) + b"Content-Length: %d\r\n\r\n"
    reader, writer = await connect()
    writer.write(refuse % 750_000)
    for length in (10, 300_000, 0, 750_000, 0):
        # The reply may be there long before the rest of the body and the next request.
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(bytes(750_000) + refuse % length + bytes(length) + refuse % 750_000)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("start", [b"", b"POST", HEAD, b"\r\n"])
async def test_headers_that_never_end(connect: Connect, start: bytes) -> None:
    reader, writer = await connect()
    writer.write(start)
    began = asyncio.get_running_loop().time()
    assert await ends(reader) == b""
    assert asyncio.get_running_loop().time() - began > 0.2  # not before its time


async def test_headers_that_drip(connect: Connect) -> None:
    reader, writer = await connect()

    async def drip() -> None:
        writer.write(HEAD)
        while True:
            writer.write(b"X: y\r\n")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    assert await ends(reader) == b""
    dripping.cancel()


async def test_line_breaks_between_requests_do_not_hold_a_connection(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n0")
    writer.write(b"\r\n")
    assert await ends(reader) == b""


@pytest.mark.parametrize(
    "headers", [b"X: " + b"y" * 200_000, b"".join(b"X%d: y\r\n" % n for n in range(20_000))]
)
async def test_headers_that_are_too_long(
    connect: Connect, headers: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 60)

    reader, writer = await connect()
    writer.write(HEAD + headers)
    answer = await ends(reader)
    assert answer[:12] in (b"HTTP/1.1 431", b"")  # the reset may overtake the answer


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_http(connect: Connect, request_: bytes) -> None:
    reader, writer = await connect()
    writer.write(request_)
    answer = await ends(reader)
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["kind"] == "BadRequest"


async def test_another_protocol_is_not_spoken(connect: Connect) -> None:
    offer = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"

    for length, status in ((b"0", b"200"), (b"3", b"400")):
        reader, writer = await connect()
        writer.write(offer + b"Content-Length: " + length + b"\r\n\r\n" + b"abc"[: int(length)])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status)
    assert b"asks for Upgrade" in await ends(reader)


async def test_a_refused_body_that_never_ends(connect: Connect) -> None:
    reader, writer = await connect()
    refused = HEAD.replace(b"/ ", b"/refuse ")
    writer.write(refused + b"Content-Length: 8000000\r\n\r\nabc")
    assert (await ends(reader)).startswith(b"HTTP/1.1 200")


async def test_an_endless_refused_body(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 60)
    monkeypatch.setattr(connections, "_FORGOTTEN", 1_000_000)

    _, writer = await connect()
    writer.write(HEAD.replace(b"/ ", b"/refuse ") + b"Content-Length: 999999999\r\n\r\n")
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 500_000_000:
            writer.write(bytes(100_000))
            await writer.drain()
            sent += 100_000
    assert sent < 500_000_000


async def test_a_body_behind_a_refused_request_has_its_time(connect: Connect) -> None:
    reader, writer = await connect()
    refused = HEAD.replace(b"/ ", b"/refuse ") + b"Content-Length: 0\r\n\r\n"
    writer.write(refused + HEAD + b"Content-Length: 3\r\n\r\na")
    await asyncio.sleep(0.6)
    writer.write(b"bc")
    assert (await ends_with(reader, b"\r\n\r\n3")).count(b"HTTP/1.1 200") == 2


async def ends_with(reader: asyncio.StreamReader, end: bytes) -> bytes:
    return await asyncio.wait_for(reader.readuntil(end), 30)


async def test_who_does_not_read_the_answer(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(1)
    assert len(await ends(reader)) < 50_000_000


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await asyncio.sleep(0.2)
    await echo(scope, receive, send)


@served(slow)
async def test_who_asks_twice_and_goes(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    _, writer = await connect()
    writer.write(b"GET /refuse HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    await asyncio.sleep(0.05)
    writer.close()
    await asyncio.sleep(0.3)
    assert not caplog.records


@served(most=1)
async def test_too_many_connections(connect: Connect) -> None:
    first, second = await connect(), await connect()
    answers = []
    for reader, writer in (first, second):
        writer.write(HEAD + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        answers.append(await ends(reader))
    assert answers[0].startswith(b"HTTP/1.1 200")
    assert answers[1].startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in answers[1]
    assert b'"kind":"TooManyConnections"' in answers[1]


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def parrot(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept a WebSocket and send back what comes; answer other requests as `echo` does."""
    if scope["type"] == "http":
        await echo(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


async def upgraded(client: Client) -> bytes:
    reader, writer = client
    writer.write(UPGRADE + b"\r\n")
    return await reader.readuntil(b"\r\n\r\n")


async def said_back(client: Client, text: bytes) -> None:
    reader, writer = client
    writer.write(bytes([0x82, 0x80 | len(text), 0, 0, 0, 0]) + text)  # masked with zeros
    assert await ends_with(reader, text) == bytes([0x82, len(text)]) + text


@served(parrot, "auto", most_web_sockets=2)
async def test_web_sockets_last_and_are_counted(connect: Connect) -> None:
    first, second, third = await connect(), await connect(), await connect()
    for client in (first, second):
        assert (await upgraded(client)).startswith(b"HTTP/1.1 101")
    assert (await upgraded(third)).startswith(b"HTTP/1.1 403")
    await asyncio.sleep(0.6)  # longer than headers may take
    await said_back(first, b"still here")
    second[1].close()
    while not (await upgraded(await connect())).startswith(b"HTTP/1.1 101"):
        await asyncio.sleep(0.05)  # until its end is noticed


@served(parrot, "auto", most_web_sockets=2)
async def test_headers_of_a_web_socket_that_never_end(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(UPGRADE)
    assert await ends(reader) == b""


def port_of(held: socket.socket) -> int:
    return int(held.getsockname()[1])


def test_a_port_is_free_or_the_next_one() -> None:
    with listening("127.0.0.1", 0) as first:
        port = port_of(first)
        with pytest.raises(RecipeError, match=f"Port {port} of 127.0.0.1 is in use"):
            listening("127.0.0.1", port).__enter__()
        with listening("127.0.0.1", port, further=50) as second:
            assert port < port_of(second) <= port + 50
            socket.create_connection(second.getsockname()[:2]).close()
    assert second.fileno() == -1  # closed with the block
    with listening("localhost", 65_535, further=20) as last:
        assert port_of(last) == 65_535
        with pytest.raises(RecipeError, match="Port 65535"):
            listening("localhost", 65_535, further=20).__enter__()
    with listening("127.0.0.1", 0) as held, socket.create_connection(held.getsockname()[:2]):
        assert port_of(held) > 0


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "256.0.0.1"])
def test_an_address_of_somebody_else(host: str) -> None:
    with pytest.raises(RecipeError, match="no address of this machine"):
        listening(host, 0, further=3).__enter__()
