"""Only regular files are opened, whatever a name leads to; and names are legal and free."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from opsin.core.files import NamesInUse, free_name, legal_name, open_regular

unix = pytest.mark.skipif(os.name == "nt", reason="needs pipes among the files")


@unix
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("pipe", "link", "socket"):
            with pytest.raises(OSError, match="Not a regular file"):
                open_regular(tmp_path / name)
    with pytest.raises(OSError, match="Not a regular file"):
        open_regular("/dev/zero")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "gone")


@unix
def test_a_name_exchanged_between_look_and_open_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    honest = file.stat()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os, "stat", lambda *_, **__: honest)
    with pytest.raises(OSError, match="Not a regular file"):
        open_regular(tmp_path / "pipe")


@unix
def test_links_are_followed_unless_they_must_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
    with pytest.raises(OSError, match="Not a regular file"):
        open_regular(tmp_path / "link", follow_links=False)
    with open_regular(tmp_path / "file", follow_links=False) as file:
        assert file.read() == b"content"


def test_a_name_is_found_among_many_quickly() -> None:
    looks = 0

    def used(name: str) -> bool:
        nonlocal looks
        looks += 1
        number = name.removesuffix(".png").rpartition("-")[2]
        return not number.isdigit() or int(number) < 1_000_000

    assert free_name("image.png", used) == "image-1000000.png"
    assert looks < 50


def test_a_long_name_stays_one_that_systems_take(tmp_path: Path) -> None:
    long = "ü" * 120 + ".png"
    (tmp_path / long).touch()
    numbered = free_name(long, lambda name: (tmp_path / name).exists())
    (tmp_path / numbered).touch()
    assert numbered.endswith("-2.png")


@given(
    st.lists(st.sampled_from(["a", "a.png", "a-2.png", "b/a.png", "b.c/a", ".png", "a-2-2.png"]))
)
def test_names_taken_one_after_another_are_never_alike(wishes: list[str]) -> None:
    taken: set[str] = set()
    for wish in wishes:
        name = free_name(wish, taken.__contains__)
        assert name not in taken
        assert name == wish or wish in taken
        assert name.rpartition("/")[0] == wish.rpartition("/")[0]
        taken.add(name)


@given(st.text(max_size=300) | st.text(" ./?aconul1%é\x01", max_size=150).map("{}.png".format))
@example(" .png")
@example(" . .png")
@example("con" + " " * 130 + "x")
@example("a" * 110 + "..b" + "c" * 40)
def test_a_legal_name_is_legal_everywhere(name: str) -> None:
    legal = legal_name(name)
    assert legal
    assert legal.isprintable()
    assert not set(legal) & set('<>:"/\\|?*%')
    assert legal == legal.strip(" .")
    assert len(legal.encode()) <= 255
    assert legal.partition(".")[0].strip().casefold() not in {"con", "nul", "aux", "prn", "com1"}
    assert legal_name(legal) == legal
    if name.lstrip(".").endswith(".png"):
        assert legal.endswith(".png")


@given(st.lists(st.sampled_from(["a", "A", "a-2", "a.b", "A.b", "a-2.b", "ä", "a\u0308"])))
def test_no_two_names_are_alike(names: list[str]) -> None:
    used = NamesInUse()
    given = [used.take(name) for name in names]
    assert len({name.casefold() for name in given}) == len(names)
    assert given[:1] == names[:1]
