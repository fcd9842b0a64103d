"""The studio's door: pages run no script from a name, and believe no proxy."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from pathlib import Path

from starlette.types import Message, Receive, Scope, Send

from opsin.studio.door import StudioSignIn
from opsin.studio.pages.sign_in import page
from opsin.studio.people import People
from opsin.studio.security import SignInFile, guarded
from opsin.studio.settings import StudioSettings
from opsin.web.access import AccessMiddleware, SignIn
from tests.web.made_requests import BEARER, HOST, TOKEN, ask

SEEN: list[tuple[bytes, bytes]] = []


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    SEEN[:] = scope["headers"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


def door(token: str | None = None, port: int = 8000) -> AccessMiddleware:
    return guarded(_app, host="127.0.0.1", sign_in=SignIn(f"studio-{port}", page), token=token)


def test_what_pages_may_do() -> None:
    headers = dict(ask(door(), [HOST])["headers"])
    policy = headers[b"content-security-policy"].decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["object-src"] == "'none'"
    # An attribute such as onerror= is where a name that holds HTML would run a script.
    assert rules["script-src-attr"] == "'none'"
    assert rules["frame-ancestors"] == rules["connect-src"] == rules["form-action"] == "'self'"
    assert not re.search(r"\*|https?:|//", policy)  # nothing from elsewhere
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"referrer-policy"] == b"no-referrer"


def test_a_proxys_headers_are_not_believed() -> None:
    names = (b"x-forwarded-prefix", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded")
    ask(door(TOKEN), [HOST, BEARER, *((name, b"evil.example") for name in names)])
    assert SEEN == [HOST, BEARER]


def test_without_a_token_the_page_on_the_disk_is_the_way_in(tmp_path: Path) -> None:
    sign_in = SignIn("studio", page)
    guarded_by = guarded(_app, host="127.0.0.1", sign_in=sign_in)
    entrance = SignInFile(tmp_path / "sign-in.html", "http://127.0.0.1:8000", sign_in)
    assert ask(guarded_by, [HOST])["status"] == 401
    seen = set[str]()
    for _ in range(3):
        if not seen:
            entrance.write()
        found = re.search(r'url=http://127\.0\.0\.1:8000/\?([^"]+)"', entrance.file.read_text())
        assert found
        seen.add(found[1])
        assert ask(guarded_by, [HOST], query=found[1].encode())["status"] == 303
        assert ask(guarded_by, [HOST], query=found[1].encode())["status"] == 401
        if os.name == "posix":
            assert stat.S_IMODE(entrance.file.stat().st_mode) == 0o600
    assert len(seen) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["sign-in.html"]
    entrance.remove()
    assert not entrance.file.exists()


def cookie_of(code: str, by: StudioSignIn, token: str | None = None) -> tuple[bytes, bytes]:
    door = guarded(_app, host="127.0.0.1", sign_in=by, token=token)
    reply = ask(door, [HOST], query=f"token={code}".encode())
    assert reply["status"] == 303
    return b"cookie", dict(reply["headers"])[b"set-cookie"].partition(b";")[0]


def test_a_guests_windows_close_when_their_access_ends(tmp_path: Path) -> None:
    people = People(tmp_path)
    settings = StudioSettings(runs=tmp_path / "runs", home=tmp_path, roots=())
    sign_in = StudioSignIn(settings, 8000, people)
    cookie = cookie_of(people.invite("Ada", "viewer"), sign_in)
    received: list[Message] = []

    async def window(scope: Scope, receive: Receive, send: Send) -> None:
        while not received or received[-1]["type"] != "websocket.disconnect":
            received.append(await receive())

    async def visit() -> None:
        door = guarded(sign_in.closing(window), host="127.0.0.1", sign_in=sign_in)
        messages: asyncio.Queue[Message] = asyncio.Queue()
        messages.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket", "scheme": "ws", "path": "/", "query_string": b"",
            "headers": [HOST, cookie], "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        opened = asyncio.create_task(door(scope, messages.get, _ignore))
        while not received:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(people.revoke, people.all()[0].id)
        await asyncio.wait_for(opened, 10)

    asyncio.run(visit())
    assert [message["type"] for message in received] == [
        "websocket.connect",
        "websocket.disconnect",
    ]
    assert ask(guarded(_app, host="127.0.0.1", sign_in=sign_in), [HOST, cookie])["status"] == 401


async def _ignore(_: Message) -> None:
    return
