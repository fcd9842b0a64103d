"""The studio's door: pages run no script from a name, and believe no proxy."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from starlette.types import Receive, Scope, Send

from opsin.studio.pages.sign_in import page
from opsin.studio.security import SignInFile, guarded
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
    entrance = SignInFile(tmp_path / "sign-in.html", "127.0.0.1", 8000, sign_in)
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
