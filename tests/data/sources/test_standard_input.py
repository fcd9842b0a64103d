"""Standard input: an image or names, through pipes that stay open."""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from opsin.core.errors import OpsinError, SourceError
from opsin.data.formats import FORMATS
from opsin.data.image_stream import Stream
from opsin.data.sources import open_stream, standard_input
from opsin.data.sources.standard_input import begins_like_an_image


@pytest.fixture
def pipe() -> Iterator[tuple[io.FileIO, BinaryIO]]:
    ends = os.pipe()
    with os.fdopen(ends[0], "rb") as reading, io.FileIO(ends[1], "wb") as writing:
        yield writing, reading


def image(kind: str, size: int = 30) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def listened(stream: Stream) -> queue.Queue[str]:
    """Put the names into a queue as they come."""
    found: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for each in stream:
            found.put(each.name)
        found.put("")

    threading.Thread(target=listen, daemon=True).start()
    return found


def test_a_sample_takes_nothing_away() -> None:
    content = image("PNG", 200)
    assert len(content) > 1 << 16  # more than is read at once
    stream = open_stream("-", stdin=io.BytesIO(content))
    assert stream.sample() is None
    (found,) = stream
    assert found.image == content
    names = open_stream("-", stdin=io.BytesIO(b"a.png\nb.png"))
    assert names.sample() is None
    assert [each.name for each in names] == ["a.png", "b.png"]


def test_names_come_before_the_pipe_ends(pipe: tuple[io.FileIO, BinaryIO]) -> None:
    writing, reading = pipe
    writing.write(b"BMW.jpg\n")
    stream = open_stream("-", stdin=reading)
    assert (stream.kind, stream.count()) == ("paths", None)
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


def test_names_parted_by_nul_may_hold_line_ends(pipe: tuple[io.FileIO, BinaryIO]) -> None:
    writing, reading = pipe
    writing.write(b"./two\nlines.png\0caf\xe9.png\0 \0")
    found = listened(open_stream("-", stdin=reading))
    names = [found.get(timeout=60) for _ in range(3)]
    writing.close()
    assert not found.get(timeout=60)
    assert [os.fsencode(name) for name in names] == [b"./two\nlines.png", b"caf\xe9.png", b" "]


@pytest.mark.parametrize("kind", sorted({*FORMATS} - {"TGA", "PCX"}))  # a line of text begins so
def test_an_image_is_known_by_its_first_bytes(pipe: tuple[io.FileIO, BinaryIO], kind: str) -> None:
    writing, reading = pipe
    content = image(kind)
    assert begins_like_an_image(content[:64])

    def write() -> None:  # byte by byte at first, as from a slow line
        for place in range(20):
            writing.write(content[place : place + 1])
            time.sleep(0.001)
        writing.write(content[20:])
        writing.close()

    writer = threading.Thread(target=write)
    writer.start()
    stream = open_stream("-", stdin=reading)
    (only,) = stream
    writer.join()
    assert (stream.kind, stream.count()) == ("image", 1)
    assert (only.name, only.image, only.path) == ("standard input", content, None)


@pytest.mark.parametrize("start", [b"P6\n# a comment\n640 480\n", b"P3 2 2 255 ", b"P1\n1 1\n"])
def test_plain_formats_are_images(start: bytes) -> None:
    assert open_stream("-", stdin=io.BytesIO(start)).kind == "image"


@pytest.mark.parametrize("text", [b"P1/x.png\n", b"P6\n", b"BM", b"GIF8.png", b"RIFF\n", b"P5 x"])
def test_names_that_look_like_formats_are_names(text: bytes) -> None:
    stream = open_stream("-", stdin=io.BytesIO(text))
    assert stream.kind == "paths"
    assert [p.name.encode() for p in stream] == [text.rstrip(b"\n")]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "it is empty"), (b"PK\3\4\0\0", "something else")],
)
def test_other_input_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(OpsinError, match=words):
        open_stream("-", stdin=io.BytesIO(content))


name = st.binary(min_size=1, max_size=30).filter(lambda b: b"\0" not in b and b.strip() == b)


@given(st.lists(name, min_size=1, max_size=30), st.lists(st.integers(1, 40)), st.booleans())
def test_no_cut_between_reads_changes_a_name(
    names: list[bytes], cuts: list[int], by_nul: bool
) -> None:
    if not by_nul:
        names = [part for each in names for part in each.split(b"\n") if part.strip()]
        names = [part.rstrip(b"\r") for part in names if part.rstrip(b"\r").strip()]
    content = b"".join(each + (b"\0" if by_nul else b"\n") for each in names)
    if not names or begins_like_an_image(content) or content.startswith(b"\xef\xbb\xbf"):
        return

    class Torn(io.BytesIO):
        # A line end within a name must not be seen before the NUL behind it.
        sizes = iter([len(names[0]) + 1 if b"\n" in names[0] else 1, *cuts])

        def read1(self, size: int | None = -1) -> bytes:
            return super().read1(next(self.sizes, 7))

    found = [os.fsencode(p.name) for p in open_stream("-", stdin=Torn(content))]
    assert found == names


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(SourceError, match="a line is longer"):
        list(open_stream("-", stdin=io.BytesIO(b"x" * 1_000_000)))


def test_names_and_their_ends_may_be_written_apart(pipe: tuple[io.FileIO, BinaryIO]) -> None:
    writing, reading = pipe
    writing.write(b"1.png")
    stream = open_stream("-", stdin=reading)
    found = listened(stream)
    time.sleep(0.05)
    writing.write(b"\x002.png\0")
    assert [found.get(timeout=60) for _ in range(2)] == ["1.png", "2.png"]
    writing.close()
    assert not found.get(timeout=60)


def test_mixed_separators_are_a_row() -> None:
    content = b"1.png\n" * 20_000 + b"a\0b.png\n2.png"
    *_, mixed, last = open_stream("-", stdin=io.BytesIO(content))
    assert "has both" in str(mixed.problem)
    assert last.problem is None


def test_an_image_too_large_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_input, "MAX_BYTES", 100_000)
    (large,) = open_stream("-", stdin=io.BytesIO(image("PNG") + bytes(200_000)))
    assert "standard input holds more" in str(large.problem)


def test_a_wait_can_be_ended(pipe: tuple[io.FileIO, BinaryIO]) -> None:
    writing, reading = pipe
    writing.write(b"1.png\n")
    stream = open_stream("-", stdin=reading)
    found = listened(stream)
    assert found.get(timeout=60) == "1.png"
    stream.close()
    assert not found.get(timeout=60)


@pytest.mark.parametrize("more", [b"# " * 20_000, b"#\t\n" * 20_000 + b"x", b" " * 50_000 + b"x"])
def test_comments_without_end_take_no_longer_than_their_bytes(more: bytes) -> None:
    """They took a time that doubled with each comment."""
    assert not begins_like_an_image(b"P6 " + more)
    assert begins_like_an_image(b"P6 # 3 3 in a comment \n#\n\n 640 480\n")
    assert not begins_like_an_image(b"P6 # 3 3 in a comment")
