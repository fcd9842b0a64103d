"""The page that asks for the token needs nothing else and hands on where one was going."""

from __future__ import annotations

import functools
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nicegui")

from opsin.core.platform import is_our_connection
from opsin.studio.pages import sign_in
from opsin.studio.pages.sign_in import KeptSignIn, page

SCOPE: Final[dict[str, Any]] = {
    "type": "http", "method": "GET", "scheme": "http", "path": "/", "query_string": b"",
    "headers": [], "client": ("127.0.0.1", 0xC001), "server": ("127.0.0.1", 0x2198),
}  # fmt: skip


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


def test_it_says_when_the_token_is_another() -> None:
    assert 'role="alert"' in page(True, [])
    assert 'role="alert"' not in page(False, [])


def test_it_loads_nothing_and_runs_nothing() -> None:
    text = page(True, [("q", "x")])
    assert not re.search(r"src=|href=(?!\"data:,\")|url\(|@import|https?:|<script|\son\w+=", text)
    assert '<label for="token">' in text
    assert 'method="get"' in text


@given(st.lists(st.tuples(st.text(min_size=1), st.text())))
def test_any_address_is_handed_on_as_text(fields: list[tuple[str, str]]) -> None:
    # A parser reads a null character, a carriage return and the like as others.
    clean = [tuple(re.sub(r"[\x00\r]", "", each) or "x" for each in pair) for pair in fields]
    read = _Read(page(False, [(name, value) for name, value in clean]))
    assert read.fields == [*clean, ("token", "")]
    assert read.tags.count("input") == len(clean) + 1
    assert read.tags.count("script") == read.tags.count("img") == 0


def test_markup_in_an_address_stays_text() -> None:
    hostile = '"><script>window.HACKED=1</script><img src=x onerror=window.HACKED=2>'
    read = _Read(page(False, [(hostile, hostile)]))
    assert read.fields[0] == (hostile, hostile)
    assert "script" not in read.tags
    assert "img" not in read.tags


def cookie(
    home: Path, token: str | None = None, *, own_only: bool = True
) -> tuple[KeptSignIn, str]:
    """A studio that has just started, and what its browsers show."""
    started = KeptSignIn("c", home / "sign-in.key", token, own_only=own_only)
    query = f"token={started.new_code()}".encode()
    reply = started.reply({**SCOPE, "query_string": query}, None)
    assert reply is not None
    assert "Max-Age=2592000" in reply.headers["set-cookie"]
    return started, reply.headers["set-cookie"].partition(";")[0]


def knows(started: KeptSignIn, shown: str) -> bool:
    return started.knows({**SCOPE, "headers": [(b"cookie", shown.encode())]})


def test_a_restart_signs_nobody_out_and_another_token_everybody(tmp_path: Path) -> None:
    first, shown = cookie(tmp_path)
    assert (tmp_path / "sign-in.key").stat().st_mode & 0o077 == 0
    assert knows(first, shown)
    assert cookie(tmp_path)[1] == shown
    with_token, other = cookie(tmp_path, "sesame")
    assert not knows(with_token, shown)
    assert knows(with_token, other)
    assert cookie(tmp_path, "another")[1] != other
    # A secret that others could read, or that is cut off, is none.
    (tmp_path / "sign-in.key").chmod(0o644)
    assert not knows(cookie(tmp_path)[0], shown)
    (tmp_path / "sign-in.key").write_bytes(b"x")
    assert len({cookie(tmp_path)[1], shown, cookie(tmp_path)[1]}) == 2


def test_a_cookie_of_another_account_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "proc/net/tcp"
    table.parent.mkdir(parents=True)
    line = "   0: 0100007F:C001 0100007F:2198 01 00000000:00000000 00:00000000 00000000  {} 0 1\n"
    asked = functools.partial(is_our_connection, system=tmp_path)
    monkeypatch.setattr(sign_in, "is_our_connection", asked)
    started, shown = cookie(tmp_path)
    for account, enters in ((os.getuid(), True), (0, True), (54_321, False)):
        sign_in._is_own.cache_clear()
        table.write_text("  sl  local_address\n" + line.format(account))
        assert knows(started, shown) is enters
        # Behind a proxy of another account, a token is asked for.
        assert knows(cookie(tmp_path, own_only=False)[0], shown)
    sign_in._is_own.cache_clear()
    table.unlink()
    assert knows(started, shown)
