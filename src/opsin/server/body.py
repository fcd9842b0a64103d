"""What clients send becomes images, within limits.

The limits are kept while it arrives. Nothing is written to the disk, nothing is expanded, and no
more is kept than the limits allow: of one request (`ServerSettings.max_bytes`), and of all together
(`MemoryBudget`).
"""

from __future__ import annotations

import asyncio
import binascii
import gc
import json
import re
from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from opsin.core.operating_system import return_memory
from opsin.server.form import Form, Upload, too_many
from opsin.server.http_errors import SlowRequest, WrongMediaType
from opsin.server.predict_requests import Overloaded, TooLarge
from opsin.server.server_settings import ServerSettings
from opsin.web.refusals import BadRequest

# All bodies that are held at a time, as a multiple of the largest one.
_TOGETHER: Final = 25
# Bytes of bodies after which the memory that they took is given back to the system.
_TRIMMED: Final = 256_000_000
_ADDRESS: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


class MemoryBudget:
    """The memory that bodies may take at a time, all requests together.

    Example:
        >>> budget = MemoryBudget(100)
        >>> budget.take(60)
        >>> budget.give(60)
        >>> budget.left
        100
    """

    def __init__(self, size: int) -> None:
        self.left = size
        self._given = 0

    @classmethod
    def of(cls, settings: ServerSettings) -> MemoryBudget:
        """Return a budget of many times the largest body."""
        return cls(_TOGETHER * settings.max_bytes)

    def take(self, size: int) -> None:
        """Take bytes of it.

        Raises:
            Overloaded: There are no more.
        """
        if size > self.left:
            raise Overloaded(
                "room for this request's images",
                "the images of others fill it",
                "Try again.",
                retry_after=1,
            )
        self.left -= size

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.left += size
        self._given += size
        if self._given >= _TRIMMED:
            self._given = 0
            gc.collect()  # an error's traceback may hold a body in a circle
            return_memory()


class Body:
    """The body of one request, as it arrives.

    Args:
        scope: The request's.
        receive: Where the body comes from.
        settings: The limits.
        budget: What all requests share.

    Use it as a context manager, so that its room is given back.
    """

    def __init__(
        self, scope: Scope, receive: Receive, settings: ServerSettings, budget: MemoryBudget
    ) -> None:
        self._receive, self._settings, self._budget = receive, settings, budget
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
        self._budget.give(self._taken)
        self._taken = 0

    async def read(self) -> bytes:
        """Return all of it.

        Raises:
            TooLarge: It has more bytes than allowed.
            SlowRequest: It is not all there within the deadline.
            Overloaded: There is no room for it now.
            ClientDisconnect: The client went away.
        """
        pieces: list[bytes] = []
        await self.feed(pieces.append)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def feed(self, take: Callable[[bytes], object]) -> None:
        """Hand it over piece by piece; raises what `read` does."""
        more, seconds = True, self._settings.deadline
        try:
            async with asyncio.timeout(seconds):
                while more:
                    piece, more = await self._piece()
                    take(piece)
        except TimeoutError:
            raise SlowRequest(
                f"the body within {seconds:g} s", "it is not all there", "Try again."
            ) from None

    async def _piece(self) -> tuple[bytes, bool]:
        most = self._settings.max_bytes
        if self._length <= most:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece: bytes = message.get("body", b"")
            if self._taken + len(piece) <= most:
                self._budget.take(len(piece))
                self._taken += len(piece)
                return piece, message.get("more_body", False)
        raise TooLarge(
            f"a body of at most {most:,} bytes",
            f"it has {self._length:,}" if self._length > most else "it has more",
            "Send smaller images, or fewer at a time.",
        )


async def read_images(body: Body, settings: ServerSettings) -> list[Upload]:
    """Read the images of a request: raw, as a form, or as JSON.

    Raises:
        RequestError: The body is not understood, too large or too slow.
        Overloaded: There is no room for it now.
        ClientDisconnect: The client went away.
    """
    if body.coding not in ("", "identity"):
        raise WrongMediaType(
            "a body that is not compressed",
            f"Content-Encoding says {body.coding[:40]!r}",
            "Images are compressed already; send them as they are.",
        )
    kind = body.content_type.partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind in ("", "application/octet-stream"):
        return _raw(await body.read())
    if kind == "application/json":
        return images_of_json(await body.read(), settings.max_parts)
    if kind == "multipart/form-data":
        form = Form(body.content_type, settings.max_parts)
        await body.feed(form.write)
        return form.images()
    raise WrongMediaType(
        "an image (image/… or application/octet-stream), multipart/form-data or application/json",
        f"Content-Type says {kind[:80]!r}",
        "For one image: curl --data-binary @boot.png -H 'Content-Type: image/png' ADDRESS",
    )


def _raw(content: bytes) -> list[Upload]:
    if not content:
        raise BadRequest("an image", "the body is empty", "Send the file's bytes as the body.")
    return [Upload("image", content)]


def images_of_json(content: bytes, most: int) -> list[Upload]:
    """Read ``{"image": "…"}`` or ``{"images": ["…", …]}``, base64 or ``data:`` addresses.

    Args:
        content: The body.
        most: Images it may hold.

    Raises:
        BadRequest: It is anything else.
        TooLarge: It holds more.

    Example:
        >>> images_of_json(b'{"image": "aGk="}', 1)[0].content
        b'hi'
    """
    advice = 'Send {"image": "…"} or {"images": ["…", "…"]} with base64 or data: addresses.'

    def wrong(received: str) -> BadRequest:
        return BadRequest("one or many images as JSON", received, advice)

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
