"""Who reaches an address, and what is refused before anybody listens."""

from __future__ import annotations

import pytest

from opsin.core.errors import RecipeError
from opsin.web.addresses import check_address, is_loopback, url_of
from tests.web.made_requests import TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)
    check_address(host, None, ())


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.7", "example.org", "localhost.evil.example", "127.1"]
)
def test_other_machines_need_a_token(host: str) -> None:
    assert not is_loopback(host)
    check_address(host, TOKEN, ())
    with pytest.raises(RecipeError, match="OPSIN_TOKEN"):
        check_address(host, None, ())


def test_what_cannot_be() -> None:
    for host, token, names, words in (
        ("", TOKEN, (), "is empty"),
        ("127.0.0.1", "sesame", (), "128 random bits"),
        ("127.0.0.1", TOKEN, ("good.example", "*.example"), "is no host name"),
    ):
        with pytest.raises(RecipeError, match=words):
            check_address(host, token, names)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"),
     ("::", "http://127.0.0.1:80"), ("::1", "http://[::1]:80"), ("a.org", "http://a.org:80")],
)  # fmt: skip
def test_where_a_browser_looks(host: str, url: str) -> None:
    assert url_of(host, 80) == url
