"""Unsafe settings cannot be made."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.errors import RecipeError, StorageError
from opsin.server.settings import Settings, check_token, token_from_file
from tests.server.made_server import TOKEN


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "pictures.example.org"])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(RecipeError, match="OPSIN_TOKEN"):
        Settings(host=host)
    assert not Settings(host=host, token=TOKEN).loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_this_machine_needs_none(host: str) -> None:
    assert Settings(host=host).loopback


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
    if token == "0123456789abcdef" * 2 + "\n":
        check_token(token.strip())  # long enough, but for the line break
    with pytest.raises(RecipeError) as caught:
        Settings(token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", -1), ("port", 65_536), ("max_bytes", 0), ("max_parts", 0), ("queue", 0),
     ("deadline", 0), ("deadline", float("nan")), ("deadline", float("inf")), ("workers", 0),
     ("max_pixels", 50_000_001), ("top", 0), ("batch", -3), ("port", 80.5), ("queue", 1.5),
     ("host", "")],
)  # fmt: skip
def test_values_out_of_range(name: str, value: float | str) -> None:
    with pytest.raises(RecipeError, match=name):
        Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["*", "*.example.org", "https://x.org", "x.org:80", "x/y", "", "a b", "[::1", "[::1]:80"],
)
def test_names_that_are_no_hosts(name: str) -> None:
    with pytest.raises(RecipeError, match="names of hosts"):
        Settings(allowed_hosts=(name,))


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
    with pytest.raises(RecipeError, match="only its owner") as caught:
        token_from_file(path)
    assert token not in str(caught.value)


def test_a_token_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="token file"):
        token_from_file(tmp_path / "nowhere" / "token")
    with pytest.raises(StorageError):
        token_from_file(tmp_path)
    weak = tmp_path / "weak"
    weak.write_text("password")
    weak.chmod(0o600)
    with pytest.raises(RecipeError, match="128"):
        token_from_file(weak)
