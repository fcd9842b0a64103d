"""What clients send becomes pictures, with the limits kept while it arrives.

Nothing is written to the disk, nothing is expanded, and no more is kept than the limits allow: of
one request (`Settings.max_bytes`), and of all together (`Room`).
"""

from __future__ import annotations

import asyncio
import binascii
import json
import re
import struct
from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from opsin.data.images import look_at
from opsin.errors import ImageError
from opsin.server.asks import Overloaded
from opsin.server.form import Form, Upload, too_many
from opsin.server.replies import BadRequest, SlowRequest, TooLarge, WrongMediaType
from opsin.server.settings import Settings

# All bodies that are held at a time, as a multiple of the largest one.
_TOGETHER: Final = 25
_ADDRESS: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_JPEG_SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Room:
    """The memory that bodies may take at a time, all requests together.

    Example:
        >>> room = Room(100)
        >>> room.take(60)
        >>> room.give(60)
        >>> room.left
        100
    """

    def __init__(self, size: int) -> None:
        self.left = size

    @classmethod
    def of(cls, settings: Settings) -> Room:
        """Return room for the largest body many times over."""
        return cls(_TOGETHER * settings.max_bytes)

    def take(self, size: int) -> None:
        """Take so many bytes.

        Raises:
            Overloaded: There are no more.
        """
        if size > self.left:
            raise Overloaded(
                "room for this request's pictures",
                "the pictures of others fill it",
                "Try again.",
                retry_after=1,
            )
        self.left -= size

    def give(self, size: int) -> None:
        """Give so many bytes back."""
        self.left += size


class Body:
    """The body of one request, as it arrives.

    Args:
        scope: The request's.
        receive: Where the body comes from.
        settings: The limits.
        room: What all requests share.

    Use it as a context manager, so that its room is given back.
    """

    def __init__(self, scope: Scope, receive: Receive, settings: Settings, room: Room) -> None:
        self._receive, self._settings, self._room = receive, settings, room
        self._taken = 0
        kind = coding = b""
        length = 0
        for name, value in scope["headers"]:
            if name == b"content-type":
                kind = value
            elif name == b"content-encoding":
                coding = value.strip().lower()
            elif name == b"content-length":
                length = int(value) if value.isdigit() else 0
        self.content_type = kind.decode("latin-1")
        self.coding = coding.decode("latin-1")
        self._length = length

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.give(self._taken)
        self._taken = 0

    async def read(self) -> bytes:
        """Return all of it.

        Raises:
            TooLarge: It has more bytes than allowed.
            Overloaded: There is no room for it now.
            ClientDisconnect: The client went away.
        """
        piece, more = await self._piece()
        if not more:
            return piece
        pieces = [piece]
        while more:
            piece, more = await self._piece()
            pieces.append(piece)
        return b"".join(pieces)

    async def feed(self, take: Callable[[bytes], object]) -> None:
        """Hand it over piece by piece; raises what `read` does."""
        more = True
        while more:
            piece, more = await self._piece()
            take(piece)

    async def _piece(self) -> tuple[bytes, bool]:
        most = self._settings.max_bytes
        if self._length <= most:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece: bytes = message.get("body", b"")
            if self._taken + len(piece) <= most:
                self._room.take(len(piece))
                self._taken += len(piece)
                return piece, message.get("more_body", False)
        raise TooLarge(
            f"a body of at most {most:,} bytes",
            f"it has {self._length:,}" if self._length > most else "it has more",
            "Send smaller pictures, or fewer at a time.",
        )


async def read_pictures(body: Body, settings: Settings) -> list[Upload]:
    """Read the pictures of a request: raw, as a form, or as JSON.

    Raises:
        RequestError: The body is not understood, too large or too slow.
        Overloaded: There is no room for it now.
        ClientDisconnect: The client went away.
    """
    if body.coding not in ("", "identity"):
        raise WrongMediaType(
            "a body that is not compressed",
            f"Content-Encoding says {body.coding[:40]!r}",
            "Pictures are compressed already; send them as they are.",
        )
    kind = body.content_type.partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(settings.deadline):
            if kind.startswith("image/") or kind in ("", "application/octet-stream"):
                return _raw(await body.read())
            if kind == "application/json":
                return pictures_of_json(await body.read(), settings.max_parts)
            if kind == "multipart/form-data":
                form = Form(body.content_type, settings.max_parts)
                await body.feed(form.write)
                return form.pictures()
    except TimeoutError:
        raise SlowRequest(
            f"the body within {settings.deadline:g} s", "it is not all there", "Try again."
        ) from None
    raise WrongMediaType(
        "a picture (image/… or application/octet-stream), multipart/form-data or application/json",
        f"Content-Type says {kind[:80]!r}",
        "For one picture: curl --data-binary @boot.png -H 'Content-Type: image/png' ADDRESS",
    )


def _raw(content: bytes) -> list[Upload]:
    if not content:
        raise BadRequest("a picture", "the body is empty", "Send the file's bytes as the body.")
    return [Upload("picture", content)]


def pictures_of_json(content: bytes, most: int) -> list[Upload]:
    """Read ``{"image": "…"}`` or ``{"images": ["…", …]}``, base64 or ``data:`` addresses.

    Args:
        content: The body.
        most: Pictures it may hold.

    Raises:
        BadRequest: It is anything else.
        TooLarge: It holds more.

    Example:
        >>> pictures_of_json(b'{"image": "aGk="}', 1)[0].content
        b'hi'
    """
    advice = 'Send {"image": "…"} or {"images": ["…", "…"]} with base64 or data: addresses.'

    def wrong(received: str) -> BadRequest:
        return BadRequest("one or many pictures as JSON", received, advice)

    # Counted before it is parsed: each "[]," would become an object of twenty times its size. A
    # data: address has one comma, and another stands between two of them.
    if content.count(b",") > 2 * most:
        raise too_many(most)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise wrong("the body is no JSON") from None
    if not isinstance(value, dict) or len(value) != 1:
        raise wrong("the body is no object with one entry")
    ((key, given),) = value.items()
    if key == "image":
        return [Upload("image", _decoded(given, "image", wrong))]
    if key != "images" or not isinstance(given, list):
        raise wrong(f"its entry is {key[:40]!r}" if key != "images" else "images is no list")
    if not given:
        raise wrong("images is empty")
    if len(given) > most:
        raise too_many(most)
    names = [f"images[{place}]" for place in range(len(given))]
    return [
        Upload(name, _decoded(text, name, wrong)) for name, text in zip(names, given, strict=True)
    ]


def _decoded(text: object, name: str, wrong: Callable[[str], BadRequest]) -> bytes:
    if not isinstance(text, str):
        raise wrong(f"{name} is no text")
    if address := _ADDRESS.match(text):
        text = text[address.end() :]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # of which binascii.Error is one
        raise wrong(f"{name} is not base64, or has line breaks in it") from None


async def check_pixels(upload: Upload, most: int) -> None:
    """Refuse a picture that says that it has more pixels; what else is wrong, decoding tells.

    Raises:
        ImageError: It says so.
    """
    size = _stated_size(upload.content)
    if size is None:
        # Other formats' headers need a decoder's help, and a hostile one may take its time.
        try:
            size = (await asyncio.to_thread(look_at, upload.content, upload.name))[:2]
        except ImageError:
            return
    if size[0] * size[1] > most:
        raise ImageError(
            f"a picture of at most {most:,} pixels",
            f"{upload.name} has {size[1]:,} × {size[0]:,}",
            "Make it smaller first.",
        )


def _stated_size(content: bytes) -> tuple[int, int] | None:
    """Return height and width where a PNG or a JPEG states them, as nearly all pictures do."""
    if content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR" and len(content) >= 24:
        width, height = struct.unpack_from(">II", content, 16)
        return height, width
    if content[:2] == b"\xff\xd8":
        place = 2
        # ITU-T T.81, annex B: segments with their lengths, one of which states the size.
        while place + 9 <= len(content) and content[place] == 0xFF:
            marker = content[place + 1]
            if marker in _JPEG_SIZES:
                height, width = struct.unpack_from(">HH", content, place + 5)
                return height, width
            place += 1 if marker == 0xFF else 2 + int.from_bytes(content[place + 2 : place + 4])
    return None
