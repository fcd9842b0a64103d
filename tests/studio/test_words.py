"""Names stay one line, short, and change nothing around them."""

import unicodedata

from hypothesis import example, given, strategies as st

from opsin.studio.words import of_photographs, safe


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


def test_images_are_photographs_and_other_words_stay() -> None:
    text = "An image, 3 training images and an imagenet"
    assert of_photographs(text) == "A photograph, 3 training photographs and an imagenet"
