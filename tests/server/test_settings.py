"""Unsafe settings cannot be made."""

from __future__ import annotations

import pytest

from opsin.core.errors import RecipeError
from opsin.server.settings import ServerSettings
from tests.web.made_requests import TOKEN


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "images.example.org"])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(RecipeError, match="OPSIN_TOKEN"):
        ServerSettings(host=host)
    assert not ServerSettings(host=host, token=TOKEN).loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_this_machine_needs_none(host: str) -> None:
    assert ServerSettings(host=host).loopback


@pytest.mark.parametrize("token", ["", "sesame", "a" * 40, TOKEN[:21]])
def test_weak_tokens_are_refused_and_not_shown(token: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ServerSettings(token=token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", -1), ("port", 65_536), ("max_bytes", 0), ("max_parts", 0), ("queue", 0),
     ("deadline", 0), ("deadline", float("nan")), ("deadline", float("inf")), ("workers", 0),
     ("max_pixels", 50_000_001), ("top", 0), ("batch", -3), ("port", 80.5), ("queue", 1.5),
     ("host", ""), ("device", "gpu")],
)  # fmt: skip
def test_values_out_of_range(name: str, value: float | str) -> None:
    with pytest.raises(RecipeError, match=name):
        ServerSettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["*", "*.example.org", "https://x.org", "x.org:80", "x/y", "", "a b", "[::1", "[::1]:80"],
)
def test_names_that_are_no_hosts(name: str) -> None:
    with pytest.raises(RecipeError, match="names of hosts"):
        ServerSettings(allowed_hosts=(name,))
