"""A single image file, or the names of many on standard input."""

from __future__ import annotations

import codecs
import contextlib
import functools
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from threading import Event
from typing import BinaryIO, Final

from opsin.core.errors import ImageError, SourceError
from opsin.core.files import open_regular
from opsin.data.formats import is_heif
from opsin.data.image_stream import ListedImage, Stream, stream_of_one
from opsin.data.image_tree import is_image_name
from opsin.data.sources.rows import SourceKind, SourceRequest

_EXAMPLE: Final = "Write, for example: find photos -name '*.jpg' | opsin predict MODEL -"
# Bytes read at once, and of the longest name: bounds memory for input without line ends.
_CHUNK: Final = 1 << 16
# Milliseconds between checks whether a wait was cancelled.
_LOOK: Final = 100
# Bytes that tell an image from text, and the signatures of images.
_START: Final = 64
_BEGINNING: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|GIF8.a|II[*+]\x00|MM\x00[*+]|BM.{13}\x00{3}"
    rb"|.{4}ftypavi|\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51\x00|\x00\x00\x01\x00"
    rb"|P[1-6]\s+(?:#|\d+\s+\d+\s)",
    re.DOTALL,
)


def _open_piped(stdin: BinaryIO) -> Stream:
    """Open the names on standard input; a wait for more can be ended from another thread."""
    closed, poll = Event(), None
    read = getattr(stdin, "read1", stdin.read)
    # Seekable streams never block; Windows has no poll.
    if hasattr(select, "poll") and not stdin.seekable():
        with contextlib.suppress(OSError):  # a stream without a descriptor
            poll = select.poll()
            poll.register(stdin.fileno(), select.POLLIN | select.POLLHUP)

    def read_available() -> bytes:
        while poll and not closed.is_set() and not poll.poll(_LOOK):
            pass
        return b"" if closed.is_set() else bytes(read(_CHUNK))

    start = read_available()
    if not start or b"\0" in start:
        what = "holds no names" if start else "is empty"
        raise SourceError(f"Standard input {what}", _EXAMPLE)
    names = functools.partial(_named, start, read_available)
    return Stream("-", "paths", names, close=closed.set, passing=True)


def _named(start: bytes, read: Callable[[], bytes]) -> Iterator[ListedImage]:
    """Yield the image of each name, as soon as its line is complete."""
    rest, more = start.removeprefix(codecs.BOM_UTF8), start
    while more or rest:
        # At the end, the last line is complete as well.
        *lines, rest = rest.split(b"\n") if more else (rest, b"")
        if len(rest) > _CHUNK:
            raise SourceError(f"A line of standard input is longer than {_CHUNK:,} bytes", _EXAMPLE)
        for line in lines:
            written = line.removesuffix(b"\r")
            if written.strip():  # of bytes: a text's `strip` takes characters that names may be
                # Names that are not Unicode are decoded like the file system's.
                name = os.fsdecode(written)
                problem = ImageError(f"{name!r:.120}: it is no name") if "\0" in name else None
                yield ListedImage(name, name, problem=problem)
        more = read() if more else b""
        rest += more


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
            start = file.read(_START)
            return bool(_BEGINNING.match(start) or is_heif(start))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError(f"{request.path}: {reason}", "Check its rights.") from error


KINDS = (
    SourceKind(
        title="- for names on standard input",
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
