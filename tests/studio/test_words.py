"""Names stay one line, short, and change nothing around them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opsin.studio.words import ago, safe, share, size


@given(st.text(max_size=500), st.integers(3, 60))
@example("\u202egnp.exe", 60)
@example("a\u2066b\u2069c\ud800", 60)
@example("\u05d0" * 99, 7)
def test_any_name_is_one_short_line_that_turns_nothing_around(text: str, most: int) -> None:
    shown = safe(text, most)
    inner = shown.removeprefix("\u2068").removesuffix("\u2069")
    assert len(inner) <= most
    assert not {"\n", "\r", "\u2028"} & set(inner)
    joiners = {"\u200c", "\u200d"}
    assert all(unicodedata.category(c) not in {"Cc", "Cs", "Cf"} for c in set(inner) - joiners)
    if any(unicodedata.bidirectional(c) in {"R", "AL", "AN"} for c in inner):
        assert shown == f"\u2068{inner}\u2069"
    else:
        assert shown == inner


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=60))
def test_ordinary_names_are_left_as_they_are(text: str) -> None:
    assert safe(text).strip("\u2068\u2069") == text


def test_a_hostile_length_is_shortened_in_the_middle() -> None:
    assert safe("a" * 100 + "b" * 10_000_000, most=9) == "aaaa…bbbb"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"), (30, "just now"), (3600, "1 h ago"), (86_400, "yesterday"),
        (3 * 86_400, "3 days ago"),
    ],
)  # fmt: skip
def test_how_long_ago(seconds: float, words: str) -> None:
    assert ago(1e9, now=1e9 + seconds) == words


def test_figures_have_units_and_intervals() -> None:
    assert [size(n) for n in (0, 999, 1000, 12_400, 9_990_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "12 kB",
        "10.0 MB",
    ]
    assert share(None) == "–"
    assert share(1.0, 0.9963, 1.0) == "1.0000 ± 0.0037"
