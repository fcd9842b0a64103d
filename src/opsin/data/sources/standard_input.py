"""A single image file, or the names of many on standard input."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import sys
from collections.abc import Iterator
from threading import Event
from typing import Any, Final

from opsin.core.errors import ImageError, SourceError
from opsin.core.files import open_regular
from opsin.data.formats import looks_like_image
from opsin.data.image_stream import ListedImage, Stream, stream_of_one
from opsin.data.image_tree import is_image_name, readable
from opsin.data.sources.rows import SourceKind, SourceRequest

_EXAMPLE: Final = "Write, for example: find photos -name '*.jpg' | opsin predict MODEL -"
# Bytes read at once, and of the longest name: bounds memory for input without line ends.
_CHUNK: Final = 1 << 16
# Milliseconds between checks whether a wait was cancelled.
_LOOK: Final = 100


def _open_piped(request: SourceRequest) -> Stream:
    """Open the names on standard input; a wait for more can be ended from another thread."""
    stdin: Any = request.stdin or (sys.stdin and sys.stdin.buffer)
    if stdin is None:
        raise SourceError(
            "The process was started without a standard input", "Give a folder or an image by name."
        )
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

    def names() -> Iterator[ListedImage]:
        rest, more = start.removeprefix(codecs.BOM_UTF8), start
        while more or rest:
            # At the end, the last line is complete as well.
            *lines, rest = rest.split(b"\n") if more else (rest, b"")
            if len(rest) > _CHUNK:
                long = f"A line of standard input is longer than {_CHUNK:,} bytes"
                raise SourceError(long, _EXAMPLE)
            for line in lines:
                written = line.removesuffix(b"\r")
                if written.strip():  # of bytes: a text's `strip` takes characters of names
                    # Names that are not Unicode are decoded like the file system's.
                    name = os.fsdecode(written)
                    problem = ImageError(f"{name!r:.120}: it is no name") if "\0" in name else None
                    yield ListedImage(name, name, problem=problem)
            more = read_available() if more else b""
            rest += more

    return Stream("-", "paths", names, close=closed.set, passing=True)


def _is_image_file(request: SourceRequest) -> bool:
    if not request.is_file or is_image_name(request.path.name):
        return request.is_file
    with readable(request.path), open_regular(request.path) as file:
        return looks_like_image(file.read(64))


KINDS = (
    SourceKind(
        "- for names on standard input", lambda request: request.written == "-",
        iter_unlabelled=_open_piped,
    ),
    SourceKind(
        "an image", _is_image_file, rank=4,
        iter_unlabelled=lambda request: stream_of_one(request.written, str(request.path)),
    ),
)  # fmt: skip
