"""What a source without labels may be: standard input, one image; and what is none."""

import io
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.image_stream import Stream
from opsin.data.sources import open_stream


@pytest.fixture
def pipe() -> Iterator[tuple[io.FileIO, BinaryIO]]:
    ends = os.pipe()
    with os.fdopen(ends[0], "rb") as reading, io.FileIO(ends[1], "wb") as writing:
        yield writing, reading


def listened(stream: Stream) -> queue.Queue[str]:
    """Put the names into a queue as they come."""
    found: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for each in stream:
            found.put(each.name)
        found.put("")

    threading.Thread(target=listen, daemon=True).start()
    return found


def test_names_come_before_the_pipe_ends(pipe: tuple[io.FileIO, BinaryIO]) -> None:
    writing, reading = pipe
    writing.write(b"BMW.jpg\n")
    stream = open_stream("-", stdin=reading)
    assert (stream.kind, stream.count(), stream.sample()) == ("paths", None, None)
    found = listened(stream)
    assert found.get(timeout=60) == "BMW.jpg"
    writing.write(b"with blank .png\r\n\n\na/to")
    assert found.get(timeout=60) == "with blank .png"
    with pytest.raises(queue.Empty):
        found.get(timeout=0.2)
    writing.write(b"rn.png\nlast.png")
    assert found.get(timeout=60) == "a/torn.png"
    writing.close()
    assert found.get(timeout=60) == "last.png"
    assert not found.get(timeout=60)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"), (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "no names"),
        (b"1.png\x002.png\0", "no names"), (b"x" * 1_000_000, "A line of standard input is longer"),
    ],
)  # fmt: skip
def test_other_input_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        list(open_stream("-", stdin=io.BytesIO(content)))


name = st.binary(min_size=1, max_size=30).filter(
    lambda b: not {b"\0", b"\n"} & {bytes([c]) for c in b} and b.strip() == b
)


@given(st.lists(name, min_size=1, max_size=30), st.lists(st.integers(1, 40)))
def test_no_cut_between_reads_changes_a_name(names: list[bytes], cuts: list[int]) -> None:
    content = b"".join(each + b"\n" for each in names)
    if content.startswith(b"\xef\xbb\xbf"):
        return

    class Torn(io.BytesIO):
        sizes = iter([1, *cuts])

        def read1(self, size: int | None = -1) -> bytes:
            return super().read1(next(self.sizes, 7))

    found = [os.fsencode(p.name) for p in open_stream("-", stdin=Torn(content))]
    assert found == names


def test_a_wait_can_be_ended(pipe: tuple[io.FileIO, BinaryIO]) -> None:
    writing, reading = pipe
    writing.write(b"1.png\n")
    stream = open_stream("-", stdin=reading)
    found = listened(stream)
    assert found.get(timeout=60) == "1.png"
    stream.close()
    assert not found.get(timeout=60)


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


def test_a_name_that_no_disk_has_is_no_source() -> None:
    with pytest.raises(SourceError, match="There is no"):
        sources.find_all(DataRecipe.of("x" * 300))


def test_no_standard_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SourceError, match="without a standard input"):
        open_stream("-")
