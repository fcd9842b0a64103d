"""What a source without labels may be, and what is none."""

import os
from pathlib import Path

import numpy as np
import pytest

from opsin.core.errors import SourceError
from opsin.data.sources import open_stream


@pytest.mark.parametrize("name", ["boot.png", "boot.JPG"])
def test_one_image_keeps_its_name(name: str) -> None:
    stream = open_stream(name)  # it need not exist: decoding says so
    assert (stream.kind, stream.count(), stream.source) == ("file", 1, name)
    (image,) = stream
    assert (image.name, image.image, image.path) == (name, name, name)


def test_an_image_without_an_ending_is_known_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "boot").write_bytes(b"GIF89a" + bytes(60))
    assert open_stream(tmp_path / "boot").kind == "file"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https://example.org/cat.png", "is an address, and Opsin fetches nothing"),
        ("ftp://bucket/folder", "is an address"), ("gone", "there is no 'gone' here"),
        ("digits", "there is no 'digits' here"), ("a\0b", "there is no"), ("", "is empty"),
        ("x" * 300, "there is no"),
        ("notes.txt", "is a file of another kind"), ("arrays.npz", r"opsin evaluate MODEL FILE"),
        ("pipe", "a pipe or a device"),
    ],
)  # fmt: skip
def test_what_is_no_source_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("no image\n")
    np.savez("arrays.npz", images=np.zeros((1, 2, 2, 1), np.uint8))
    os.mkfifo("pipe")
    with pytest.raises(SourceError, match=f"(?i){words}"):
        open_stream(source)
