"""Nobody gets past the guard by another name, origin or token."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from opsin.web.access import HEADERS, AccessMiddleware
from tests.web.made_requests import BEARER, HOST, REFUSED, TOKEN, ask


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def guard(*, host: str = "127.0.0.1", **named: Any) -> AccessMiddleware:
    return AccessMiddleware(_nobody, host=host, headers=HEADERS, **named)


def status(guarded: AccessMiddleware, *headers: tuple[bytes, bytes], **named: Any) -> int:
    first = ask(guarded, list(headers), **named)
    return int(first.get("status", 0))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:80", "[::1]", "[::1]:8000", "localhost:65535"]
)
def test_own_names(host: str) -> None:
    assert status(guard(), (b"host", host.encode())) == 204


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "localhost:", "localhost:x",
     "localhost:80:80", "evil.example@localhost", "localhost/", "127.1", "0.0.0.0", "2130706433",
     "localhost:123456", "[::1", "::1", " localhost", "localhost,evil.example", "10.0.0.7"],
)  # fmt: skip
def test_other_names(host: str) -> None:
    assert status(guard(), (b"host", host.encode())) == 421


@given(st.binary(max_size=40))
def test_a_host_that_is_not_listed_never_passes(host: bytes) -> None:
    if re.fullmatch(rb"(?i)(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", host) is None:
        assert status(guard(), (b"host", host)) == 421


@pytest.mark.parametrize("name", REFUSED)
def test_web_sockets_are_refused_too(name: str) -> None:
    guarded = guard(token=TOKEN)
    first = ask(guarded, REFUSED[name][0], kind="websocket")
    assert (first["type"], first.get("code")) == ("websocket.close", 1008)
    assert ask(guarded, [HOST, BEARER], kind="websocket")["type"] == "websocket.accept"


def test_names_elsewhere() -> None:
    there = guard(host="192.0.2.7", token=TOKEN, allowed_hosts=("Images.example.org",))
    assert status(there, (b"host", b"192.0.2.7:8000"), BEARER) == 204
    assert status(there, (b"host", b"images.example.org"), BEARER) == 204
    assert status(there, (b"host", b"localhost:8000"), BEARER) == 421
    # As it may be given, and as it stands in a Host header.
    for name in ("2001:db8::1", "[2001:db8::1]"):
        there = guard(allowed_hosts=(name,))
        for host in (b"[2001:db8::1]", b"[2001:DB8::1]:8000"):
            origin = b"https://" + host.lower()
            assert status(there, (b"host", host), (b"origin", origin)) == 204
        assert status(there, (b"host", b"[2001:db8::2]")) == 421
    everywhere = guard(host="0.0.0.0", token=TOKEN)
    for host in (b"192.0.2.7:8000", b"[2001:db8::1]", b"localhost"):
        assert status(everywhere, (b"host", host), BEARER) == 204
    assert status(everywhere, (b"host", b"evil.example"), BEARER) == 421


def test_origins() -> None:
    def of(origin: bytes, host: bytes = b"localhost:8000", **named: Any) -> int:
        guarded = guard(allowed_hosts=("images.example.org",))
        return status(guarded, (b"host", host), (b"origin", origin), **named)

    assert of(b"http://localhost:8000") == 204
    assert of(b"http://LOCALHOST:8000") == 204
    for foreign in (
        b"", b"null", b"http://localhost", b"http://localhost:8001", b"https://localhost:8000",
        b"http://127.0.0.1:8000", b"http://localhost:8000.evil.example", b"http://localhost:8000/",
    ):  # fmt: skip
        assert of(foreign) == 403, foreign
    # A proxy ends HTTPS, and passes the name on.
    assert of(b"https://images.example.org", b"images.example.org") == 204
    assert of(b"https://images.example.org", b"localhost:8000") == 403
    assert ask(
        guard(), [HOST, (b"origin", b"http://127.0.0.1:8000")], kind="websocket"
    ) == {"type": "websocket.accept"}  # fmt: skip


def test_a_link_may_be_followed() -> None:
    site = (b"sec-fetch-site", b"cross-site")
    link = (HOST, site, (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document"))
    assert status(guard(), *link) == 204
    assert status(guard(), *link, method="POST") == 403
    assert status(guard(), HOST, site, (b"sec-fetch-mode", b"no-cors")) == 403
    frame = (*link[:3], (b"sec-fetch-dest", b"iframe"))
    assert status(guard(), *frame) == 403
    # With a wrong origin it is no link.
    assert status(guard(), *link, (b"origin", b"http://evil.example")) == 403


def test_tokens() -> None:
    def of(shown: bytes) -> int:
        return status(guard(token=TOKEN), HOST, (b"authorization", shown))

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


def test_replies_carry_what_they_do_not_say_themselves() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        own = [(b"cache-control", b"private, max-age=60")]
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body"})

    headers = {**HEADERS, "content-security-policy": "default-src 'none'"}
    guarded = AccessMiddleware(app, host="127.0.0.1", headers=headers)
    carried = dict(ask(guarded, [HOST])["headers"])
    assert carried.pop(b"cache-control") == b"private, max-age=60"
    for name, value in headers.items():
        assert name == "cache-control" or carried.pop(name.encode()) == value.encode()
    assert not carried
    refused = dict(ask(guarded, [])["headers"])
    assert {name.encode(): value.encode() for name, value in headers.items()}.items() <= (
        refused.items()
    )


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_headers_that_are_dropped(kind: str) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])
        await _nobody(scope, receive, send)

    guarded = AccessMiddleware(
        app, host="127.0.0.1", headers=HEADERS, dropped=("x-forwarded-prefix",)
    )
    sent = [HOST, (b"x-forwarded-prefix", b"//evil.example"), (b"x-other", b"1")]
    ask(guarded, sent, kind=kind)
    assert seen == [HOST, (b"x-other", b"1")]


@pytest.mark.parametrize("gone", [True, False])
def test_a_client_that_goes_before_its_reply_is_no_fault(gone: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 500, "headers": []})
        raise RuntimeError("No response returned.")

    async def receive() -> Message:
        return {"type": "http.disconnect" if gone else "http.request"}

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [HOST]}
    guarded = AccessMiddleware(app, host="127.0.0.1", headers=HEADERS)
    with contextlib.nullcontext() if gone else pytest.raises(RuntimeError):
        asyncio.run(guarded(scope, receive, send))
