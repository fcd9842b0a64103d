"""Who reaches an address, and what is refused before anybody listens; no token can be guessed."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from opsin.core.errors import RecipeError, StorageError
from opsin.web.addresses import AddressSettings, check_token, is_loopback, token_from_file, url_of
from tests.web.made_requests import TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)
    AddressSettings(host=host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.7", "example.org", "localhost.evil.example", "127.1"]
)
def test_other_machines_need_a_token(host: str) -> None:
    assert not is_loopback(host)
    AddressSettings(host=host, token=TOKEN)
    with pytest.raises(RecipeError, match="OPSIN_TOKEN"):
        AddressSettings(host=host)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"host": ""}, "is empty"), ({"token": "sesame"}, "128 random bits"), ({"port": -1}, "port"),
     ({"allowed_hosts": ("good.example", "*.example")}, "is no host name")],
)  # fmt: skip
def test_what_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        AddressSettings(**settings)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"),
     ("::", "http://127.0.0.1:80"), ("::1", "http://[::1]:80"), ("a.org", "http://a.org:80")],
)  # fmt: skip
def test_where_a_browser_looks(host: str, url: str) -> None:
    assert url_of(host, 80) == url


@given(st.integers(0))
def test_random_tokens_are_good(seed: int) -> None:
    for token in (secrets.token_urlsafe(16), secrets.token_hex(16), secrets.token_urlsafe(32)):
        check_token(token)


@pytest.mark.parametrize(
    "token",
    ["", "sesame", "a" * 40, "ab" * 20, TOKEN[:21], "0123456789abcdef" * 2 + "\n", "0" * 32,
     "0123456789abcdef0123456789abcd", "correct horse battery staple", "ä" * 30],
)  # fmt: skip
def test_weak_tokens_are_refused_and_not_shown(token: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_token(token)
    assert not token or token not in str(caught.value)


def test_a_token_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = token_from_file(path)
    check_token(token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_from_file(path) == token


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such modes")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_token_file_that_others_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    token = token_from_file(path)
    path.chmod(mode)
    with pytest.raises(RecipeError, match="its owner can read") as caught:
        token_from_file(path)
    assert token not in str(caught.value)


def test_a_token_file_that_cannot_be(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "token", tmp_path):
        with pytest.raises(StorageError, match="token file"):
            token_from_file(path)
    weak = tmp_path / "weak"
    weak.write_text("password")
    weak.chmod(0o600)
    with pytest.raises(RecipeError, match="128"):
        token_from_file(weak)
