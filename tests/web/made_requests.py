"""Requests as friends and strangers send them, to any ASGI application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final

from starlette.routing import Mount, Route

TOKEN = "q3Zr0pY8mVnWc5xKd7TsLb2HfJ6gUeAi"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
HOST = (b"host", b"127.0.0.1:8000")
BEARER = (b"authorization", f"Bearer {TOKEN}".encode())
Headers = list[tuple[bytes, bytes]]

#: What strangers send to an application that has `TOKEN`, and the status each must get.
REFUSED: Final[Mapping[str, tuple[Headers, int]]] = {
    "no host": ([BEARER], 400),
    "two hosts": ([HOST, HOST, BEARER], 400),
    "foreign host": ([(b"host", b"evil.example"), BEARER], 421),
    "foreign host, own port": ([(b"host", b"evil.example:8000"), BEARER], 421),
    "foreign origin": ([HOST, (b"origin", b"http://evil.example"), BEARER], 403),
    "null origin": ([HOST, (b"origin", b"null"), BEARER], 403),
    "two origins": ([HOST, *[(b"origin", b"http://127.0.0.1:8000")] * 2, BEARER], 403),
    "cross-site": ([HOST, (b"sec-fetch-site", b"cross-site"), BEARER], 403),
    "same-site": ([HOST, (b"sec-fetch-site", b"same-site"), BEARER], 403),
    "no token": ([HOST], 401),
    "wrong token": ([HOST, (b"authorization", b"Bearer " + TOKEN[::-1].encode())], 401),
    "two tokens": ([HOST, BEARER, BEARER], 401),
}


async def first_message(app: Any, headers: Headers, **named: Any) -> dict[str, Any]:
    """Send a request as it is, without a client that mends it; return the first answer."""
    return (await messages(app, headers, **named))[0]


def scope_of(
    headers: Headers,
    *,
    path: str = "/",
    method: str = "GET",
    kind: str = "http",
    query: bytes = b"",
) -> dict[str, Any]:
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "ws" if kind == "websocket" else "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "state": {},
    }


async def messages(app: Any, headers: Headers, **named: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    scope = scope_of(headers, **named)

    async def receive() -> dict[str, Any]:
        if scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def ask(app: Any, headers: Headers, **named: Any) -> dict[str, Any]:
    return asyncio.run(first_message(app, headers, **named))


def paths_of(routes: Any, filled: str) -> list[str]:
    """Return an address for each route, ``filled`` in its places, and those of mounted ones."""
    found = []
    for route in routes:
        if isinstance(route, Mount):
            below = paths_of(route.routes, filled) if route.routes else ["/anything"]
            found += [route.path + each for each in below]
        else:
            # Whatever else hides routes would make such a test pass without testing them.
            assert isinstance(route, Route), route
            found.append(re.sub(r"{[^}]*}", filled, route.path))
    return found


async def passed(app: Any, paths: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return the strangers that were let in: path, method, and who it was."""
    found = []
    for path, (name, (headers, status)) in product(paths, REFUSED.items()):
        for method in METHODS:
            first = await first_message(app, headers, path=path, method=method)
            if first["status"] != status:
                found.append((path, method, name))
        first = await first_message(app, headers, path=path, kind="websocket")
        if first["type"] != "websocket.close":
            found.append((path, "websocket", name))
    return found
