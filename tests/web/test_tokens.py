"""No token can be guessed, and its file is its owner's alone."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.errors import RecipeError, StorageError
from opsin.web.tokens import check_token, token_from_file
from tests.web.made_requests import TOKEN


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
    with pytest.raises(StorageError, match="token file"):
        token_from_file(tmp_path / "nowhere" / "token")
    with pytest.raises(StorageError):
        token_from_file(tmp_path)
    weak = tmp_path / "weak"
    weak.write_text("password")
    weak.chmod(0o600)
    with pytest.raises(RecipeError, match="128"):
        token_from_file(weak)
