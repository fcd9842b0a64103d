"""What a process and its children send each other.

A frame is the header's length (4 bytes, little-endian), the body's length (8 bytes), the header
(short JSON), the body. Images and arrays travel in the body as they are, so nothing is encoded
twice, and nothing that arrives is ever run, as it would be with pickle.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

_LENGTHS: Final = struct.Struct("<IQ")

Header = dict[str, Any]


def pack(header: Header, parts: Sequence[bytes] = ()) -> list[bytes]:
    """Return a frame in pieces, ready to be sent one after another."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return [_LENGTHS.pack(len(head), sum(map(len, parts))) + head, *parts]


class Unpacker:
    """Puts frames together from whatever pieces arrive."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[Header, bytes]]:
        """Yield each frame that is now whole: header and body."""
        held = self._held
        held += piece
        while len(held) >= _LENGTHS.size:
            head, body = _LENGTHS.unpack_from(held)
            start = _LENGTHS.size + head
            if len(held) < start + body:
                return
            header = json.loads(held[_LENGTHS.size : start])
            content = bytes(memoryview(held)[start : start + body])
            del held[: start + body]
            yield header, content


def receive(stream: io.RawIOBase | io.BufferedIOBase) -> tuple[Header, memoryview] | None:
    """Wait for a frame from a pipe or socket; ``None``: the other side has closed."""
    lengths = _exactly(stream, _LENGTHS.size)
    if lengths is None:
        return None
    head, body = _LENGTHS.unpack(lengths)
    header, content = _exactly(stream, head), _exactly(stream, body)
    if header is None or content is None:
        return None
    return json.loads(bytes(header)), content


async def receive_async(stream: asyncio.StreamReader) -> tuple[Header, bytes] | None:
    """Wait for a frame as `receive` does, in an event loop."""
    try:
        head, body = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
        return json.loads(await stream.readexactly(head)), await stream.readexactly(body)
    except EOFError:  # asyncio.IncompleteReadError
        return None


def whole(view: memoryview) -> bytes:
    """Return a frame's body as bytes, without a copy where it arrived as such."""
    own = view.obj
    return own if isinstance(own, bytes) and len(own) == len(view) else bytes(view)


def _exactly(stream: io.RawIOBase | io.BufferedIOBase, count: int) -> memoryview | None:
    if isinstance(stream, io.BufferedReader):
        content = stream.read(count)
        return memoryview(content) if len(content) == count else None
    view = memoryview(bytearray(count))
    done = 0
    while done < count:
        got = stream.readinto(view[done:])
        if not got:
            return None
        done += got
    return view
