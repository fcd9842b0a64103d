"""Galleries: plain values for the page, whatever people call their images."""

from __future__ import annotations

import pytest

pytest.importorskip("nicegui")

from opsin.studio.parts.gallery import GalleryImage, _as_plain

HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.exe" + "x" * 10_000


def test_names_are_text_and_short_and_keys_are_ours() -> None:
    plain = _as_plain(GalleryImage("1", "/images/a/1", HOSTILE, HOSTILE, "left out"), 84)
    assert set(plain) == {"id", "src", "alt", "title", "caption", "mark"}
    assert len(plain["caption"]) <= 28
    assert len(plain["alt"]) <= 220
    assert "\u202e" not in "".join(plain.values())
    assert plain["caption"].startswith("<img src=x")
    assert "…" in plain["caption"]


def test_a_mark_is_said_as_well() -> None:
    assert _as_plain(GalleryImage("1", "/p", "Coat, test/3", "Coat"), 84)["alt"] == "Coat, test/3"
    assert _as_plain(GalleryImage("1", "/p", "Coat", "Coat", "wrong"), 84)["alt"] == "Coat, wrong"


def test_larger_images_have_longer_captions() -> None:
    long = GalleryImage("1", "/p", "", "a" * 100)
    assert len(_as_plain(long, 168)["caption"]) > len(_as_plain(long, 84)["caption"])
