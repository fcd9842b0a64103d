"""Nobody gets past the guard: every route, method and kind of connection."""

from __future__ import annotations

import asyncio
import base64
import re
from itertools import product
from typing import Any

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from opsin.server.guard import Guard
from opsin.server.settings import Settings
from tests.server.made_server import TOKEN, Asks, Host

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
HOST = (b"host", b"127.0.0.1:8000")
BEARER = (b"authorization", f"Bearer {TOKEN}".encode())
Headers = list[tuple[bytes, bytes]]
REFUSED: dict[str, tuple[Headers, set[int]]] = {
    "no host": ([BEARER], {400}),
    "two hosts": ([HOST, HOST, BEARER], {400}),
    "foreign host": ([(b"host", b"evil.example"), BEARER], {421}),
    "foreign host, own port": ([(b"host", b"evil.example:8000"), BEARER], {421}),
    "foreign origin": ([HOST, (b"origin", b"http://evil.example"), BEARER], {403}),
    "null origin": ([HOST, (b"origin", b"null"), BEARER], {403}),
    "two origins": ([HOST, *[(b"origin", b"http://127.0.0.1:8000")] * 2, BEARER], {403}),
    "cross-site": ([HOST, (b"sec-fetch-site", b"cross-site"), BEARER], {403}),
    "same-site": ([HOST, (b"sec-fetch-site", b"same-site"), BEARER], {403}),
    "no token": ([HOST], {401}),
    "wrong token": ([HOST, (b"authorization", b"Bearer " + TOKEN[::-1].encode())], {401}),
    "two tokens": ([HOST, BEARER, BEARER], {401}),
}


@pytest.fixture(scope="module")
def asks(host: Host) -> Asks:
    return host.asks(Settings(token=TOKEN))


async def first_message(
    app: Any, headers: Headers, *, path: str = "/", method: str = "GET", kind: str = "http"
) -> dict[str, Any]:
    """Send a request as it is, without a client that mends it."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "ws" if kind == "websocket" else "http", "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "headers": headers, "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000), "subprotocols": [], "state": {},
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        if kind == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]


def ask(app: Any, headers: Headers, **named: Any) -> dict[str, Any]:
    return asyncio.run(first_message(app, headers, **named))


def paths_of(routes: Any) -> list[str]:
    """Return an address for each route, those of mounted applications included."""
    found = []
    for route in routes:
        if isinstance(route, Mount):
            found += [route.path + below for below in paths_of(route.routes)]
        else:
            # Whatever else hides routes would make this test pass without testing them.
            assert isinstance(route, Route), route
            found.append(re.sub(r"{[^}]*}", "digits", route.path))
    return found


def test_nothing_passes(asks: Asks) -> None:
    app = asks.app
    paths = paths_of(app.routes)
    assert {"/predict", "/v1/models/digits:predict-image", "/v2/health/live", "/metrics", "/",
            "/docs", "/openapi.json"} <= set(paths)  # fmt: skip

    async def all_that_pass() -> list[tuple[str, str, str]]:
        passed = []
        for path, (name, (headers, statuses)) in product([*paths, "/nowhere"], REFUSED.items()):
            for method in METHODS:
                first = await first_message(app, headers, path=path, method=method)
                if first["status"] not in statuses:
                    passed.append((path, method, name))
            first = await first_message(app, headers, path=path, kind="websocket")
            if first["type"] != "websocket.close":
                passed.append((path, "websocket", name))
        return passed

    assert not asks.run(all_that_pass())


def test_friends_pass_everywhere(asks: Asks) -> None:
    app = asks.app
    for route in app.routes:
        assert isinstance(route, Route)
        (path,) = paths_of([route])
        method = sorted(route.methods or ())[0]
        answer = asks.run(first_message(app, [HOST, BEARER], path=path, method=method))
        assert answer["status"] not in (401, 403, 405, 421), path
    assert any(isinstance(route, APIRoute) for route in app.routes)


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def status(settings: Settings, *headers: tuple[bytes, bytes], **named: Any) -> int:
    first = ask(Guard(_nobody, settings), list(headers), **named)
    return int(first.get("status", 0))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:80", "[::1]", "[::1]:8000", "localhost:65535"]
)
def test_own_names(host: str) -> None:
    assert status(Settings(), (b"host", host.encode())) == 204


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "localhost:", "localhost:x",
     "localhost:80:80", "evil.example@localhost", "localhost/", "127.1", "0.0.0.0", "2130706433",
     "localhost:123456", "[::1", "::1", " localhost", "localhost,evil.example", "10.0.0.7"],
)  # fmt: skip
def test_other_names(host: str) -> None:
    assert status(Settings(), (b"host", host.encode())) == 421


@given(st.binary(max_size=40))
def test_a_host_that_is_not_listed_never_passes(host: bytes) -> None:
    if re.fullmatch(rb"(?i)(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", host) is None:
        assert status(Settings(), (b"host", host)) == 421


@pytest.mark.parametrize("name", REFUSED)
def test_web_sockets_are_refused_too(name: str) -> None:
    guard = Guard(_nobody, Settings(token=TOKEN))
    first = ask(guard, REFUSED[name][0], kind="websocket")
    assert (first["type"], first.get("code")) == ("websocket.close", 1008)
    assert ask(guard, [HOST, BEARER], kind="websocket")["type"] == "websocket.accept"


def test_names_elsewhere() -> None:
    there = Settings(host="192.0.2.7", token=TOKEN, allowed_hosts=("Pictures.example.org",))
    assert status(there, (b"host", b"192.0.2.7:8000"), BEARER) == 204
    assert status(there, (b"host", b"pictures.example.org"), BEARER) == 204
    assert status(there, (b"host", b"localhost:8000"), BEARER) == 421
    # As it may be given, and as it stands in a Host header.
    for name in ("2001:db8::1", "[2001:db8::1]"):
        there = Settings(allowed_hosts=(name,))
        for host in (b"[2001:db8::1]", b"[2001:DB8::1]:8000"):
            origin = b"https://" + host.lower()
            assert status(there, (b"host", host), (b"origin", origin)) == 204
        assert status(there, (b"host", b"[2001:db8::2]")) == 421
    everywhere = Settings(host="0.0.0.0", token=TOKEN)
    for host in (b"192.0.2.7:8000", b"[2001:db8::1]", b"localhost"):
        assert status(everywhere, (b"host", host), BEARER) == 204
    assert status(everywhere, (b"host", b"evil.example"), BEARER) == 421


def test_origins() -> None:
    def of(origin: bytes, host: bytes = b"localhost:8000", **named: Any) -> int:
        settings = Settings(allowed_hosts=("pictures.example.org",))
        return status(settings, (b"host", host), (b"origin", origin), **named)

    assert of(b"http://localhost:8000") == 204
    assert of(b"http://LOCALHOST:8000") == 204
    for foreign in (
        b"", b"null", b"http://localhost", b"http://localhost:8001", b"https://localhost:8000",
        b"http://127.0.0.1:8000", b"http://localhost:8000.evil.example", b"http://localhost:8000/",
    ):  # fmt: skip
        assert of(foreign) == 403, foreign
    # A proxy ends HTTPS, and passes the name on.
    assert of(b"https://pictures.example.org", b"pictures.example.org") == 204
    assert of(b"https://pictures.example.org", b"localhost:8000") == 403
    assert ask(
        Guard(_nobody, Settings()), [HOST, (b"origin", b"http://127.0.0.1:8000")], kind="websocket"
    ) == {"type": "websocket.accept"}  # fmt: skip


def test_a_link_may_be_followed() -> None:
    site = (b"sec-fetch-site", b"cross-site")
    link = (HOST, site, (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document"))
    assert status(Settings(), *link) == 204
    assert status(Settings(), *link, method="POST") == 403
    assert status(Settings(), HOST, site, (b"sec-fetch-mode", b"no-cors")) == 403
    frame = (*link[:3], (b"sec-fetch-dest", b"iframe"))
    assert status(Settings(), *frame) == 403
    # With a wrong origin it is no link.
    assert status(Settings(), *link, (b"origin", b"http://evil.example")) == 403


def test_tokens() -> None:
    def of(shown: bytes) -> int:
        return status(Settings(token=TOKEN), HOST, (b"authorization", shown))

    token = TOKEN.encode()
    for right in (
        b"Bearer " + token,
        b"bearer  " + token + b" ",
        b"Basic " + base64.b64encode(b"me:" + token),
        b"basic " + base64.b64encode(b":" + token),
    ):
        assert of(right) == 204, right
    for wrong in (
        b"", b"Bearer", b"Bearer ", token, b"Token " + token, b"Bearer " + token[:-1],
        b"Bearer " + token + b"x", b"Basic " + base64.b64encode(token),
        b"Basic " + base64.b64encode(b"me:"), b"Basic !!!", b"Bearer \xff\xfe",
    ):  # fmt: skip
        assert of(wrong) == 401, wrong


def test_what_replies_carry(asks: Asks) -> None:
    refused = asks.get("/v1/models")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert set(refused.json()["error"]) == {"kind", "expected", "received", "advice"}
    answered = asks.get("/v1/models", headers={"authorization": f"Bearer {TOKEN}"})
    assert answered.status_code == 200
    for reply in (refused, answered):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_the_token_is_told_nowhere(asks: Asks, caplog: pytest.LogCaptureFixture) -> None:
    shown = {"authorization": f"Bearer {TOKEN}"}
    texts = [repr(Settings(token=TOKEN))]
    for path in ("/openapi.json", "/metrics", "/nowhere", "/v1/models", "/", "/docs"):
        texts += [asks.get(path, headers=shown).text, asks.get(path).text]
    wrong = f"{TOKEN}wrong"
    texts.append(asks.get("/", headers={"authorization": f"Bearer {wrong}"}).text)
    texts.append(caplog.text)
    assert not [text for text in texts if TOKEN in text]
