"""Archives are read forward, into memory, and trusted with nothing."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from opsin.core.errors import SourceError
from opsin.data.image_stream import ListedImage
from opsin.data.sources import archive, open_stream
from tests.data.sources.conftest import Notes
from tests.data.sources.test_archive import KINDS, pack

FILES = {
    "cat/2.png": b"b", "cat/1.png": b"a", "./deep/er/x.JPG": b"c", ".hidden.png": b"h",
    "__MACOSX/cat/1.png": b"m", "notes.txt": b"n", "table.csv": b"path\n",
}  # fmt: skip


@pytest.mark.parametrize("suffix", KINDS)
def test_each_kind_is_read_in_its_own_order(tmp_path: Path, suffix: str) -> None:
    stream = open_stream(pack(tmp_path / f"set{suffix}", FILES))
    assert stream.kind == "archive"
    assert [(p.name, p.image, p.path) for p in stream] == [
        ("cat/2.png", b"b", None), ("cat/1.png", b"a", None), ("deep/er/x.JPG", b"c", None),
    ]  # fmt: skip
    assert stream.count() == (3 if suffix == ".zip" else None)
    assert [path.name for path in tmp_path.iterdir()] == [f"set{suffix}"]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_name_that_comes_twice_gets_a_number(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    pack(
        path,
        [("c/1.png", b"a"), ("c/1.png", b"b"), ("c/1-2.png", b"c"), ("./c/1.png", b"d")],
    )
    watcher = Notes()
    for _ in range(2):  # the same each time, so that a work that was stopped can go on
        assert [(p.name, p.image) for p in open_stream(path, watcher=watcher)] == [
            ("c/1.png", b"a"), ("c/1-2.png", b"b"), ("c/1-2-2.png", b"c"), ("c/1-3.png", b"d"),
        ]  # fmt: skip
    assert watcher.notes[0].endswith("several images have one name; 3 of them were given a number")


def test_a_member_too_large_for_an_image_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1_000_000)
    path = pack(tmp_path / "a.zip", {"1.png": b"a", "2.png": bytes(3_000_000), "3.png": b"c"})
    first, large, last = open_stream(path)
    assert (first.image, first.problem, last.image) == (b"a", None, b"c")
    assert large.problem
    assert "2.png is larger" in str(large.problem)


def damaged_zip(path: Path) -> list[ListedImage]:
    """Damage the middle one of three members, and read."""
    pack(path, {f"{n}.png": os.urandom(900) for n in range(3)})
    with zipfile.ZipFile(path) as packed:
        at = packed.getinfo("1.png").header_offset + 400
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    path.write_bytes(content)
    return list(open_stream(path))


def test_one_damaged_member_of_a_zip_is_a_row(tmp_path: Path) -> None:
    first, damaged, last = damaged_zip(tmp_path / "a.zip")
    assert first.problem is None
    assert last.problem is None
    assert isinstance(last.image, bytes)
    assert len(last.image) == 900
    assert "1.png: damaged in the archive" in str(damaged.problem)


def test_a_torn_tar_gives_what_came_before(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {f"{n}.png": os.urandom(9_000) for n in range(20)})
    os.truncate(path, 60_000)
    images = iter(open_stream(path))
    assert [next(images).name for _ in range(6)] == [f"{n}.png" for n in range(6)]
    with pytest.raises(SourceError, match="cut short"):
        next(images)
