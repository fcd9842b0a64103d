"""A single image file, or standard input: an image, or names of many."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from threading import Event
from typing import BinaryIO, Final

from opsin.core.errors import ImageError, SourceError
from opsin.core.files import open_regular
from opsin.data.formats import MAX_BYTES, is_heif
from opsin.data.image_stream import ListedImage, Stream, stream_of_one
from opsin.data.image_tree import is_image_name
from opsin.data.sources.rows import SourceKind, SourceRequest

_EXAMPLE: Final = "Write, for example: find photos -name '*.jpg' | opsin predict MODEL -"
# Bytes read at once, and of the longest name: bounds memory for input without line ends.
_CHUNK: Final = 1 << 16
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


def _reader(stream: BinaryIO, closed: Event) -> Callable[[], bytes]:
    """Return a function that reads available bytes; none at the end, or once closed."""
    read = getattr(stream, "read1", stream.read)
    poll = None
    # Seekable streams never block; Windows has no poll.
    if hasattr(select, "poll") and not stream.seekable():
        with contextlib.suppress(OSError):  # a stream without a descriptor
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLIN | select.POLLHUP)

    def read_available() -> bytes:
        while poll and not closed.is_set() and not poll.poll(_LOOK):
            pass
        return b"" if closed.is_set() else bytes(read(_CHUNK))

    return read_available


def _open_piped(stdin: BinaryIO) -> Stream:
    """Open standard input as one image or as names, by its first bytes."""
    closed = Event()
    read = _reader(stdin, closed)
    start = more = read()
    # A whole line, such as BMW.jpg, is a name: the next may take long.
    while more and len(start) < _START and not _is_line(start):
        more = read()
        start += more
    if begins_like_an_image(start):
        return Stream("-", "image", lambda: _image(start, read), lambda: 1, closed.set,
                      passing=True)  # fmt: skip
    if not start or b"\0" in start:
        what = "holds no image of a known format and no names" if start else "is empty"
        raise SourceError(f"Standard input {what}", _EXAMPLE)
    return Stream("-", "paths", lambda: _named(start, read), close=closed.set, passing=True)


def _is_line(start: bytes) -> bool:
    first, end, _ = start.decode("utf-8", "surrogateescape").partition("\n")
    return bool(end) and first.rstrip("\r").isprintable() and not re.match(rb"P[1-6]\s", start)


def _image(start: bytes, read: Callable[[], bytes]) -> Iterator[ListedImage]:
    name, content, problem = "standard input", bytearray(start), None
    while len(content) <= MAX_BYTES and (piece := read()):
        content += piece
    if len(content) > MAX_BYTES:
        content.clear()
        problem = ImageError(f"{name}: it is larger than {MAX_BYTES // 1_000_000} MB")
    yield ListedImage(name, bytes(content), problem=problem)


def _named(start: bytes, read: Callable[[], bytes]) -> Iterator[ListedImage]:
    """Yield the image of each name, as soon as its line is complete."""
    rest, more = start.removeprefix(codecs.BOM_UTF8), start
    while more:
        *lines, rest = rest.split(b"\n")
        if len(rest) > _CHUNK:
            raise SourceError(f"A line of standard input is longer than {_CHUNK:,} bytes", _EXAMPLE)
        yield from _listed(lines)
        more = read()
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
    return _open_piped(sys.stdin.buffer if request.stdin is None else request.stdin)


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
