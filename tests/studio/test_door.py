"""The studio's door: who gets in and stays in; pages run no script from a name."""

import asyncio
import functools
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opsin.core.platform import is_our_connection
from opsin.studio import door as door_module
from opsin.studio.door import Door, sign_in_page
from opsin.studio.pages.people import _DAYS
from opsin.studio.people import People
from opsin.studio.settings import StudioSettings
from tests.web.made_requests import BEARER, HOST, TOKEN, ask, scope_of

SEEN: list[tuple[bytes, bytes]] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    SEEN[:] = scope["headers"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


class Made:
    """A studio's door, and what requests get through it."""

    def __init__(self, home: Path, app: ASGIApp = app, **given: Any) -> None:
        settings = StudioSettings(runs=home / "runs", home=home, roots=(), **given)
        self.people, self.entrance = People(home), settings.entrance
        self.door = Door(settings, self.people, 8000)
        self.guarded = self.door.guard(app)

    def ask(self, *headers: tuple[bytes, bytes], **named: Any) -> Any:
        return ask(self.guarded, [HOST, *headers], **named)

    def cookie(self, code: str = "") -> tuple[bytes, bytes]:
        """The cookie for a code, of the owner unless one is given."""
        query = f"token={code or self.door.new_code()}".encode()
        reply = self.ask(query=query)
        assert reply["status"] == 303
        cookie = dict(reply["headers"])[b"set-cookie"]
        assert b"Max-Age=%d;" % (max(_DAYS) * 86_400) in cookie  # as long as access may last
        assert self.ask(query=query)["status"] == 401  # works once
        return b"cookie", cookie.partition(b";")[0]

    def knows(self, cookie: tuple[bytes, bytes]) -> bool:
        return bool(self.ask(cookie)["status"] == 200)


def test_what_pages_may_do(tmp_path: Path) -> None:
    headers = dict(Made(tmp_path).ask()["headers"])
    policy = headers[b"content-security-policy"].decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["object-src"] == "'none'"
    # An attribute such as onerror= is where a name that holds HTML would run a script.
    assert rules["script-src-attr"] == "'none'"
    assert rules["frame-ancestors"] == rules["connect-src"] == rules["form-action"] == "'self'"
    assert not re.search(r"\*|https?:|//", policy)  # nothing from elsewhere
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"referrer-policy"] == b"no-referrer"


def test_a_proxys_headers_are_not_believed(tmp_path: Path) -> None:
    names = (b"x-forwarded-prefix", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded")
    made = Made(tmp_path, token=TOKEN)
    for kind in ("http", "websocket"):
        made.ask(BEARER, *((name, b"evil.example") for name in names), kind=kind)
        assert SEEN == [HOST, BEARER]
        SEEN.clear()


def test_without_a_token_the_page_on_the_disk_is_the_way_in(tmp_path: Path) -> None:
    made, seen = Made(tmp_path), set[str]()
    made.door.write_entrance()
    for _ in range(3):  # the page is another one each time
        text = made.entrance.read_text("utf-8")
        found = re.search(r'url=http://127\.0\.0\.1:8000/\?token=([^"]+)"', text)
        assert found
        seen.add(found[1])
        made.cookie(found[1])
        assert os.name != "posix" or made.entrance.stat().st_mode & 0o077 == 0
    assert len(seen) == 3
    assert {file.name for file in tmp_path.iterdir()} == {"sign-in.html", "sign-in.key"}


def test_a_restart_signs_nobody_out_and_another_token_everybody(tmp_path: Path) -> None:
    first = Made(tmp_path)
    shown, key = first.cookie(), tmp_path / "sign-in.key"
    assert key.stat().st_mode & 0o077 == 0
    assert first.knows(shown)
    assert Made(tmp_path).knows(shown)
    with_token = Made(tmp_path, token=TOKEN)
    assert not with_token.knows(shown)
    assert with_token.knows(with_token.cookie())
    # A secret that others could read, or that is cut off, is none.
    key.chmod(0o644)
    other = Made(tmp_path)
    assert not other.knows(shown)
    shown = other.cookie()
    key.write_bytes(b"x")
    assert not Made(tmp_path).knows(shown)


def test_another_accounts_cookie_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "proc/net/tcp"
    table.parent.mkdir(parents=True)
    line = "   0: 0100007F:0001 0100007F:1F40 01 00000000:00000000 00:00000000 00000000  {} 0 1\n"
    asked = functools.partial(is_our_connection, system=tmp_path)
    monkeypatch.setattr(door_module, "is_our_connection", asked)
    alone, shared = Made(tmp_path), Made(tmp_path, share=True)
    shown = alone.cookie()
    for account, enters in ((os.getuid(), True), (0, True), (54_321, False)):
        door_module._is_own.cache_clear()
        table.write_text("  sl  local_address\n" + line.format(account))
        assert alone.knows(shown) is enters
        assert shared.knows(shown)
    door_module._is_own.cache_clear()
    table.unlink()
    assert alone.knows(shown)


def test_a_guests_windows_close_when_their_access_ends(tmp_path: Path) -> None:
    received: list[str] = []
    sent: list[str] = []

    async def window(scope: Scope, receive: Receive, send: Send) -> None:
        while not received or received[-1] != "websocket.disconnect":
            received.append((await receive())["type"])
            await send({"type": "websocket.send"})

    made = Made(tmp_path, window, share=True)
    cookie = made.cookie(made.people.invite("Ada", "viewer"))

    async def visit() -> None:
        messages: asyncio.Queue[Message] = asyncio.Queue()
        messages.put_nowait({"type": "websocket.connect"})

        async def send(message: Message) -> None:
            sent.append(message["type"])

        opened = asyncio.ensure_future(
            made.guarded(scope_of([HOST, cookie], kind="websocket"), messages.get, send)
        )
        while not sent:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(made.people.revoke, made.people.all()[0].id)
        messages.put_nowait({"type": "websocket.receive"})
        await asyncio.wait_for(opened, 10)

    asyncio.run(visit())
    assert received == ["websocket.connect", "websocket.disconnect"]
    assert sent == ["websocket.send", "websocket.close"]
    assert made.ask(cookie)["status"] == 401


@pytest.mark.parametrize("location", ["http://127.0.0.1:8000/jobs", "/jobs", "/opsin/jobs"])
def test_a_studio_below_a_path_leads_to_no_other(tmp_path: Path, location: str) -> None:
    async def lead_on(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"Location", location.encode())]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body"})

    made = Made(tmp_path, lead_on, sub_path="/opsin", token=TOKEN)
    assert dict(made.ask(BEARER, path="/opsin/a")["headers"])[b"Location"] == b"/opsin/jobs"
    for path, status in (("/", 303), ("/opsin", 303), ("/opsinful", 404), ("/opsin/", 401)):
        assert made.ask(path=path)["status"] == status, path


class _Read(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        if tag == "input":
            self.fields.append((given["name"] or "", given.get("value") or ""))


def test_the_page_that_asks_for_the_token_needs_nothing_else() -> None:
    text = sign_in_page(True, [("q", "x")])
    assert 'role="alert"' in text
    assert 'role="alert"' not in sign_in_page(False, [])
    assert not re.search(r"src=|href=(?!\"data:,\")|url\(|@import|https?:|<script|\son\w+=", text)
    assert '<label for="token">' in text
    assert 'method="get"' in text


@given(st.lists(st.tuples(st.text(min_size=1), st.text())))
def test_any_address_is_handed_on_as_text(fields: list[tuple[str, str]]) -> None:
    # A parser reads a null character, a carriage return and the like as others.
    clean = [tuple(re.sub(r"[\x00\r]", "", each) or "x" for each in pair) for pair in fields]
    clean.append(('"><script>window.HACKED=1</script><img src=x onerror=window.HACKED=2>',) * 2)
    read = _Read(sign_in_page(False, [(name, value) for name, value in clean]))
    assert read.fields == [*clean, ("token", "")]
    assert read.tags.count("input") == len(clean) + 1
    assert read.tags.count("script") == read.tags.count("img") == 0
