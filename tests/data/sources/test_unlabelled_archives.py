"""Images of archives without labels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opsin.core.errors import SourceError
from opsin.data import images
from opsin.data.sources import open_stream
from tests.data.sources.test_archive import KINDS, pack

pytestmark = pytest.mark.usefixtures("cache")

FILES = {
    "cat/2.png": b"b", "cat/1.png": b"a", "./deep/er/x.JPG": b"c", ".hidden.png": b"h",
    "__MACOSX/cat/1.png": b"m", "notes.txt": b"n", "table.csv": b"path\n",
}  # fmt: skip


@pytest.mark.parametrize("suffix", KINDS)
def test_each_kind_is_read_in_the_order_of_a_folder(tmp_path: Path, suffix: str) -> None:
    stream = open_stream(pack(tmp_path / f"set{suffix}", FILES))
    assert stream.kind == "archive"
    assert [(p.name, p.image, p.path) for p in stream] == [
        ("cat/1.png", b"a", None), ("cat/2.png", b"b", None), ("deep/er/x.JPG", b"c", None),
    ]  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"cache", f"set{suffix}"}


def test_a_member_too_large_for_an_image_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 1_000_000)
    path = pack(tmp_path / "a.zip", {"1.png": b"a", "2.png": bytes(3_000_000), "3.png": b"c"})
    first, large, last = open_stream(path)
    assert (first.image, first.problem, last.image) == (b"a", None, b"c")
    assert large.problem
    assert "2.png: larger" in str(large.problem)


def test_a_tar_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {f"{n}.png": os.urandom(9_000) for n in range(20)})
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(SourceError, match="damaged or cut short"):
        list(open_stream(path))


def test_a_zip_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {f"{n}.png": os.urandom(9_000) for n in range(20)})
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(SourceError, match="damaged or cut short"):
        list(open_stream(path))
