"""The page that asks for the token needs nothing else and hands on where one was going."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from opsin.studio.pages.sign_in import page


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
