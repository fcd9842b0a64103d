"""One image in a file of its own, or standard input: an image, or names of many."""

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

_CALLED: Final = "standard input"
_EXAMPLE: Final = "Write, for example: find photos -name '*.jpg' | opsin predict MODEL -"
_CHUNK: Final = 1 << 16
#: Bytes of the longest name: bounds what input without line ends can ask for.
_LONGEST: Final = 1 << 16
# Milliseconds after which a wait for input looks whether it is still wanted.
_LOOK: Final = 100

# What image files begin with: bytes at places. Text begins with none of these, names included.
_BEGINNINGS: Final = (
    ((0, b"\xff\xd8\xff"),),  # JPEG
    ((0, b"\x89PNG\r\n\x1a\n"),),
    ((0, b"RIFF"), (8, b"WEBP")),
    ((0, b"GIF8"), (5, b"a")),
    ((0, b"BM"), (15, b"\0\0\0")),  # the size of its header, less than 256
    ((0, b"II*\0"),),  # TIFF
    ((0, b"MM\0*"),),
    ((0, b"II+\0"),),
    ((0, b"MM\0+"),),
    ((4, b"ftypavi"),),  # AVIF
    ((0, b"\0\0\0\x0cjP  \r\n\x87\n"),),  # JPEG 2000, and its bare code stream
    ((0, b"\xff\x4f\xff\x51\0"),),
    ((0, b"\0\0\1\0"),),  # ICO
)
# PPM and its kin are text themselves: the kind, comments, width and height. Each part takes what it
# can and gives none of it back, so that the time is linear in the bytes, whatever they are.
_PPM: Final = re.compile(rb"P[1-6]\s++(?:#[^\n]*+\n\s*+)*+\d++\s++\d++\s")
_MAY_BE_PPM: Final = re.compile(rb"P([1-6](\s+(#|\d|$)|$)|$)")
#: Bytes that tell; a PPM may have comments before them.
_START: Final = 64
_COMMENTED: Final = 1 << 12


def begins_like_an_image(start: bytes) -> bool:
    """Tell by a file's first 64 bytes whether it is an image of a known format."""
    return bool(_PPM.match(start) or is_heif(start)) or any(
        all(start[place:].startswith(magic) for place, magic in each) for each in _BEGINNINGS
    )


def _may_become_one(start: bytes) -> bool:
    # A whole line of text, such as BMW.jpg, is a name: waiting for the next could take long.
    is_line = start.endswith(b"\n") and start.isascii() and b"\0" not in start
    short = not is_line and len(start) < _START
    if short and any(
        all(magic.startswith(start[place : place + len(magic)]) for place, magic in each)
        for each in _BEGINNINGS
    ):
        return True
    return len(start) < _COMMENTED and bool(_MAY_BE_PPM.match(start)) and not _PPM.match(start)


def open_piped(stdin: BinaryIO) -> Stream:
    """Find out whether standard input holds one image or names, by its first bytes."""
    pipe = _Pipe(stdin)
    start = pipe.read()
    while start and _may_become_one(start) and (more := pipe.read()):
        start += more
    if begins_like_an_image(start):
        return Stream(
            "-", "image", lambda: _image(start, pipe), lambda: 1, pipe.close, passing=True
        )
    if not start or start.startswith(b"\0") or b"\0\0" in start:
        raise SourceError(
            "an image of a known format, or names of files, on standard input",
            "it holds something else" if start else "it is empty",
            _EXAMPLE,
        )
    return Stream("-", "paths", lambda: _named(start, pipe), close=pipe.close, passing=True)


class _Pipe:
    """Bytes as they come; a wait for them can be ended from another thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._closed = False
        self._poll: select.poll | None = None
        # A file or bytes in memory never keep anyone waiting; on Windows there is no asking.
        if hasattr(select, "poll") and not stream.seekable():
            with contextlib.suppress(OSError):  # it has no number: bytes that a program makes
                number = stream.fileno()
                self._poll = select.poll()
                self._poll.register(number, select.POLLIN | select.POLLHUP)

    def read(self) -> bytes:
        """Return what is there, at least a byte; nothing at the end, or once it was closed."""
        while self._poll and not self._closed and not self._poll.poll(_LOOK):
            pass
        content: bytes = b"" if self._closed else self._read(_CHUNK)
        return content

    def close(self) -> None:
        """End the wait."""
        self._closed = True


def _image(start: bytes, pipe: _Pipe) -> Iterator[ListedImage]:
    content, problem = bytearray(start), None
    while len(content) <= MAX_BYTES and (piece := pipe.read()):
        content += piece
    if len(content) > MAX_BYTES:
        content.clear()
        problem = ImageError(
            f"an image of at most {MAX_BYTES // 1_000_000} MB",
            f"{_CALLED} holds more",
            "Make it smaller first.",
        )
    yield ListedImage(_CALLED, bytes(content), problem=problem)


def _named(start: bytes, pipe: _Pipe) -> Iterator[ListedImage]:
    """Yield the image of each name, as soon as the name is whole."""
    # Some write a name and its end apart.
    while b"\0" not in start and b"\n" not in start and len(start) <= _LONGEST:
        more = pipe.read()
        if not more:
            break
        start += more
    # A name may hold a line end, but never a NUL.
    separator = b"\0" if b"\0" in start else b"\n"
    rest = start.removeprefix(codecs.BOM_UTF8)
    more = start
    while more:
        *names, rest = rest.split(separator)
        for name in names:
            yield from _one(name, separator)
        if len(rest) > _LONGEST:
            raise SourceError(
                "names of files, a line each, on standard input",
                f"a line is longer than {_LONGEST:,} bytes",
                _EXAMPLE,
            )
        more = pipe.read()
        rest += more
    yield from _one(rest, separator)


def _one(written: bytes, separator: bytes) -> Iterator[ListedImage]:
    if separator == b"\n":
        written = written.removesuffix(b"\r")  # written on Windows
        written = written if written.strip() else b""
    if written:
        # Names that are no Unicode come through as they do from the file system.
        name = os.fsdecode(written)
        problem = None
        if "\0" in name:
            problem = ImageError(
                "names parted either by line ends or by NUL", f"{name!r:.120} has both", "Use one."
            )
        yield ListedImage(name, name, problem=problem)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    if request.stdin is None and sys.stdin is None:
        raise SourceError(
            "an image or names of files on standard input",
            "the process was started without one",
            "Give a folder or an image by name.",
        )
    return open_piped(sys.stdin.buffer if request.stdin is None else request.stdin)


def _is_image_file(request: SourceRequest) -> bool:
    """Tell an image by its name or, whatever that is, by its first bytes."""
    if not request.is_file or is_image_name(request.path.name):
        return request.is_file
    try:
        with open_regular(request.path) as file:
            return begins_like_an_image(file.read(_START))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError(
            "a readable file", f"{request.path}: {reason}", "Check its rights."
        ) from error


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
