"""A single image file, or standard input: an image, or names of many."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import sys
from collections.abc import Iterator
from typing import BinaryIO, Final

from opsin.core.errors import ImageError, SourceError
from opsin.core.files import open_regular
from opsin.data.formats import MAX_BYTES, is_heif
from opsin.data.image_stream import ListedImage, Stream, stream_of_one
from opsin.data.image_tree import is_image_name
from opsin.data.sources.source_kind import SourceKind, SourceRequest

_EXAMPLE: Final = "Write, for example: find photos -name '*.jpg' | opsin predict MODEL -"
_CHUNK: Final = 1 << 16
#: Bytes of the longest name: bounds memory for input without line ends.
_LONGEST: Final = 1 << 16
# Milliseconds between checks whether a wait was cancelled.
_LOOK: Final = 100
#: Bytes that tell an image from text, and the signatures of images. No name begins like these.
_START: Final = 64
_BEGINNING: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|GIF8.a|II[*+]\x00|MM\x00[*+]|BM.{13}\x00{3}"
    rb"|.{4}ftypavi|\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51\x00|\x00\x00\x01\x00"
    rb"|P[1-6]\s+(?:#|\d+\s+\d+\s)",
    re.DOTALL,
)


def begins_like_an_image(start: bytes) -> bool:
    """Tell by its first 64 bytes whether a file is an image of a known format."""
    return bool(_BEGINNING.match(start) or is_heif(start))


class _Pipe:
    """A reader whose waits can be ended from another thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._closed = False
        self._poll: select.poll | None = None
        # Seekable streams never block; Windows has no poll.
        if hasattr(select, "poll") and not stream.seekable():
            with contextlib.suppress(OSError):  # a stream without a descriptor
                number = stream.fileno()
                self._poll = select.poll()
                self._poll.register(number, select.POLLIN | select.POLLHUP)

    def read(self) -> bytes:
        """Return available bytes, at least one; none at the end, or once closed."""
        while self._poll and not self._closed and not self._poll.poll(_LOOK):
            pass
        content: bytes = b"" if self._closed else self._read(_CHUNK)
        return content

    def close(self) -> None:
        """End the wait."""
        self._closed = True


def open_piped(stdin: BinaryIO) -> Stream:
    """Open standard input as one image or as names, by its first bytes."""
    pipe = _Pipe(stdin)
    start = more = pipe.read()
    # A whole line, such as BMW.jpg, is a name: the next may take long.
    while more and len(start) < _START and not _is_line(start):
        more = pipe.read()
        start += more
    if begins_like_an_image(start):
        return Stream(
            "-", "image", lambda: _image(start, pipe), lambda: 1, pipe.close, passing=True
        )
    if not start or b"\0" in start:
        what = "holds no image of a known format and no names" if start else "is empty"
        raise SourceError(f"Standard input {what}", _EXAMPLE)
    return Stream("-", "paths", lambda: _named(start, pipe), close=pipe.close, passing=True)


def _is_line(start: bytes) -> bool:
    first, end, _ = start.decode("utf-8", "surrogateescape").partition("\n")
    return bool(end) and first.rstrip("\r").isprintable() and not re.match(rb"P[1-6]\s", start)


def _image(start: bytes, pipe: _Pipe) -> Iterator[ListedImage]:
    name, content, problem = "standard input", bytearray(start), None
    while len(content) <= MAX_BYTES and (piece := pipe.read()):
        content += piece
    if len(content) > MAX_BYTES:
        content.clear()
        problem = ImageError(f"{name}: it is larger than {MAX_BYTES // 1_000_000} MB")
    yield ListedImage(name, bytes(content), problem=problem)


def _named(start: bytes, pipe: _Pipe) -> Iterator[ListedImage]:
    """Yield the image of each name, as soon as its line is complete."""
    rest, more = start.removeprefix(codecs.BOM_UTF8), start
    while more:
        *lines, rest = rest.split(b"\n")
        if len(rest) > _LONGEST:
            raise SourceError(
                f"A line of standard input is longer than {_LONGEST:,} bytes", _EXAMPLE
            )
        yield from _listed(lines)
        more = pipe.read()
        rest += more
    yield from _listed([rest])


def _listed(lines: list[bytes]) -> Iterator[ListedImage]:
    for line in lines:
        written = line.removesuffix(b"\r")
        if written.strip():  # of bytes: a text's `strip` also takes characters that names may be
            # Names that are not Unicode are decoded like the file system's.
            name = os.fsdecode(written)
            problem = ImageError(f"{name!r:.120}: it is no name") if "\0" in name else None
            yield ListedImage(name, name, problem=problem)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    if request.stdin is None and sys.stdin is None:
        raise SourceError(
            "The process was started without a standard input", "Give a folder or an image by name."
        )
    return open_piped(sys.stdin.buffer if request.stdin is None else request.stdin)


def _is_image_file(request: SourceRequest) -> bool:
    """Tell whether a source is an image, by its name or its first bytes."""
    if not request.is_file or is_image_name(request.path.name):
        return request.is_file
    try:
        with open_regular(request.path) as file:
            return begins_like_an_image(file.read(_START))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError(f"{request.path}: {reason}", "Check its rights.") from error


KINDS = (
    SourceKind(
        title="- for standard input",
        match=lambda request: request.written == "-",
        iter_unlabelled=_iter_unlabelled,
    ),
    SourceKind(
        title="an image",
        match=_is_image_file,
        iter_unlabelled=lambda request: stream_of_one(request.written, request.path),
        rank=4,
    ),
)
