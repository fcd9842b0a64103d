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
    [
        (b"", "is empty"),
        (b"PK\3\4\0\0", "no image of a known format"),
        (b"1.png\x002.png\0", "holds no image"),
    ],
)
def test_other_input_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(OpsinError, match=words):
        open_stream("-", stdin=io.BytesIO(content))


name = st.binary(min_size=1, max_size=30).filter(
    lambda b: not {b"\0", b"\n"} & {bytes([c]) for c in b} and b.strip() == b
)


@given(st.lists(name, min_size=1, max_size=30), st.lists(st.integers(1, 40)))
def test_no_cut_between_reads_changes_a_name(names: list[bytes], cuts: list[int]) -> None:
    content = b"".join(each + b"\n" for each in names)
    if not names or begins_like_an_image(content) or content.startswith(b"\xef\xbb\xbf"):
        return

    class Torn(io.BytesIO):
        sizes = iter([1, *cuts])

        def read1(self, size: int | None = -1) -> bytes:
            return super().read1(next(self.sizes, 7))

    found = [os.fsencode(p.name) for p in open_stream("-", stdin=Torn(content))]
    assert found == names


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(SourceError, match="A line of standard input is longer"):
        list(open_stream("-", stdin=io.BytesIO(b"x" * 1_000_000)))


def test_an_image_too_large_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_input, "MAX_BYTES", 100_000)
    (large,) = open_stream("-", stdin=io.BytesIO(image("PNG") + bytes(200_000)))
    assert "standard input: it is larger" in str(large.problem)


def test_a_wait_can_be_ended(pipe: tuple[io.FileIO, BinaryIO]) -> None:
    writing, reading = pipe
    writing.write(b"1.png\n")
    stream = open_stream("-", stdin=reading)
    found = listened(stream)
    assert found.get(timeout=60) == "1.png"
    stream.close()
    assert not found.get(timeout=60)
