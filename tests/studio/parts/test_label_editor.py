"""Addresses of a set's images: every one is read again as it was written."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nicegui")

from opsin.studio.parts.label_editor import ImageFilter


def read(address: str) -> ImageFilter:
    parts = urlsplit(address)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    fields = (query.get(name, "") for name in ("class", "part", "finding", "page"))
    return ImageFilter.of(parts.path.rpartition("/")[2], *fields)


@given(
    label=st.none() | st.integers(0, 10**8),
    part=st.sampled_from([None, "train", "val", "test", "unsplit"]),
    finding=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    page=st.integers(1, 10**6),
)
def test_an_address_means_what_it_was_made_of(
    label: int | None, part: str | None, finding: str | None, page: int
) -> None:
    wanted = ImageFilter("0a", label, part, finding, page)
    address = wanted.address(page=page)
    assert read(address) == wanted
    assert address.isascii()
    assert read(wanted.address(label=3)) == ImageFilter("0a", 3, part, finding, 1)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "9" * 5000, "\u0663", " 1"])
def test_what_no_address_of_ours_says_is_passed_over(text: str) -> None:
    assert ImageFilter.of("0a", text, text, "", text) == ImageFilter("0a")
    assert not ImageFilter.of("0a", text, text, "", text).filtered
