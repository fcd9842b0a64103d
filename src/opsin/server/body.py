"""What clients send becomes images, within limits that hold while it arrives.

Nothing is written to the disk, nothing is expanded, and no more is kept than the limits allow: of
one request (`ServerSettings.max_bytes`), and of all together (`MemoryBudget`).
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import gc
import re
from collections.abc import AsyncGenerator, Awaitable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, ValidationError
from pydantic.json_schema import WithJsonSchema
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from opsin.core.platform import return_memory
from opsin.server.errors import Overloaded, SlowRequest, TooLarge, WrongMediaType
from opsin.server.settings import ServerSettings
from opsin.web.refusals import BadRequest

#: Seconds that a request waits before its client is looked for.
LOOK_AFTER: Final = 0.25
# All bodies that are held at a time, as a multiple of the largest one.
_TOGETHER: Final = 25
# Bytes of bodies after which the memory that they took is given back to the system.
_TRIMMED: Final = 256_000_000
_ADDRESS: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Upload:
    """An image as it was sent, under its file's name where the client gave one."""

    name: str
    content: bytes = field(repr=False)


class MemoryBudget:
    """The bytes that bodies may take at a time, all requests together."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._given = 0

    @classmethod
    def of(cls, settings: ServerSettings) -> MemoryBudget:
        """A budget of many times the largest body."""
        return cls(_TOGETHER * settings.max_bytes)

    def take(self, size: int) -> None:
        """Take bytes of it, or raise `Overloaded`."""
        if size > self.left:
            expected, received = "room for this request's images", "the images of others fill it"
            raise Overloaded(expected, received, "Try again.", retry_after=1)
        self.left -= size

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.left += size
        self._given += size
        if self._given >= _TRIMMED:
            self._given = 0
            gc.collect()  # an error's traceback may hold a body in a circle
            return_memory()


@contextlib.contextmanager
def limited(request: Request, settings: ServerSettings, budget: MemoryBudget) -> Iterator[Request]:
    """The request with a body that keeps the limits while it arrives: `TooLarge`, `Overloaded`."""
    most, taken = settings.max_bytes, 0
    stated = request.headers.get("content-length", "")

    def too_large(has: str) -> TooLarge:
        return TooLarge(
            f"a body of at most {most:,} bytes", has, "Send smaller images, or fewer at a time."
        )

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        size = len(message.get("body", b""))
        if taken + size > most:
            raise too_large("it has more")
        budget.take(size)
        taken += size
        return message

    if stated.isascii() and stated.isdigit() and int(stated) > most:
        raise too_large(f"it has {int(stated):,}")
    try:
        yield Request(request.scope, receive)
    finally:
        budget.give(taken)


async def in_time(reading: Awaitable[_Read], settings: ServerSettings) -> _Read:
    """What is read of a body, or `SlowRequest` where it is not there by the deadline."""
    try:
        async with asyncio.timeout(settings.deadline):
            return await reading
    except TimeoutError:
        raise SlowRequest(
            f"the body within {settings.deadline:g} s", "it is not all there", "Try again."
        ) from None


def check_encoding(request: Request) -> None:
    """Refuse a compressed body: `WrongMediaType`."""
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise WrongMediaType(
            "a body that is not compressed",
            f"Content-Encoding says {coding[:40]!r}",
            "Images are compressed already; send them as they are.",
        )


async def read_images(request: Request, settings: ServerSettings) -> list[Upload]:
    """Read the images of a `limited` request: raw, as a form, or as JSON."""
    check_encoding(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind in ("", "application/octet-stream"):
        content = await in_time(request.body(), settings)
        if not content:
            raise BadRequest("an image", "the body is empty", "Send the file's bytes as the body.")
        return [Upload("image", content)]
    if kind == "application/json":
        return images_of_json(await in_time(request.body(), settings), settings.max_parts)
    if kind == "multipart/form-data":
        return await in_time(_images_of_form(request, settings), settings)
    raise WrongMediaType(
        "an image (image/… or application/octet-stream), multipart/form-data or application/json",
        f"Content-Type says {kind[:80]!r}",
        "For one image: curl --data-binary @boot.png -H 'Content-Type: image/png' ADDRESS",
    )


def _too_many(most: int) -> TooLarge:
    return TooLarge(f"at most {most:,} images", "there are more", "Send them in several requests.")


class _Form(MultiPartParser):
    """Starlette's parser of forms, which tells whether the form came to its end."""

    ended = False

    def on_end(self) -> None:
        """Take note of the end."""
        self.ended = True


async def _images_of_form(request: Request, settings: ServerSettings) -> list[Upload]:
    def wrong(received: str) -> BadRequest:
        return BadRequest(
            "images as the files of a form (multipart/form-data)",
            received,
            "With curl: -F image=@boot.png, once for each image.",
        )

    async def pieces() -> AsyncGenerator[bytes, None]:
        async for piece in request.stream():
            yield piece
        if not form.ended:
            raise MultiPartException("the body ends before the form does")

    form = _Form(request.headers, pieces(), max_files=settings.max_parts, max_fields=0)
    form.spool_max_size = settings.max_bytes + 1  # in memory: nothing comes upon the disk
    try:
        parts = (await form.parse()).multi_items()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(settings.max_parts) from None
        if error.message.startswith("Too many fields"):
            raise wrong("a part is no file; options such as top belong behind the ?") from None
        raise wrong(error.message) from None
    uploads = []
    for number, (_, file) in enumerate(parts, 1):
        assert isinstance(file, UploadFile)
        content = file.file.read()
        file.file.close()
        if content or file.filename:  # else: a page's file field in which nothing was chosen
            uploads.append(Upload(file.filename or f"image {number}", content))
    if not uploads:
        raise wrong("it holds none")
    return uploads


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("it is no text")  # noqa: TRY004  what pydantic takes for a refusal
    if address := _ADDRESS.match(text):
        text = text[address.end() :]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # of which binascii.Error is one
        raise ValueError("it is not base64, or has line breaks in it") from None


_Image = Annotated[
    bytes,
    BeforeValidator(_decoded),
    WithJsonSchema(
        {"type": "string", "description": "base64 without line breaks, or a data: address"}
    ),
]


class JsonImages(BaseModel):
    """One image, or many: ``{"image": "…"}`` or ``{"images": ["…", …]}``."""

    model_config = ConfigDict(extra="forbid")

    image: _Image | None = None
    images: Annotated[list[_Image], FailFast()] = []


def images_of_json(content: bytes, most: int) -> list[Upload]:
    """Read `JsonImages`.

    Example:
        >>> images_of_json(b'{"image": "aGk="}', 1)[0].content
        b'hi'
    """
    # Counted before it is parsed: each "[]," would become an object of twenty times its size. A
    # data: address has one comma, and another stands between two of them.
    if content.count(b",") > 2 * most:
        raise _too_many(most)
    wrong = ""
    try:
        found = JsonImages.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:60]
        wrong = f"{where}: {first['msg']}" if where else first["msg"]
    else:
        if len(found.images) > most:
            raise _too_many(most)
        if found.image is not None and not found.images:
            return [Upload("image", found.image)]
        if found.images and found.image is None:
            return [Upload(f"images[{i}]", image) for i, image in enumerate(found.images)]
        wrong = "it holds none, or both image and images"
    raise BadRequest(
        "one or many images as JSON",
        " ".join(wrong.split())[:200],
        'Send {"image": "…"} or {"images": ["…", "…"]} with base64 or data: addresses.',
    )


async def while_connected(receive: Receive, work: Awaitable[_Read]) -> _Read:
    """Wait for work, which is cancelled once the client has gone: ``ClientDisconnect``.

    A client that is gone would keep its place in the queue until the deadline, and the server would
    compute in vain. Looking costs a task, so only requests that wait for a while do it: the others
    pay for a timer alone. All of the request's body must have been read.
    """
    task = asyncio.current_task()
    assert task is not None
    before, gone = task.cancelling(), False
    looking: list[asyncio.Task[None]] = []

    async def look() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass  # the end of a body may be sent once more
        gone = True
        task.cancel()

    loop = asyncio.get_running_loop()
    timer = loop.call_later(LOOK_AFTER, lambda: looking.append(loop.create_task(look())))
    try:
        return await work
    except asyncio.CancelledError:
        # As `asyncio.timeout` does: the task may have been cancelled from elsewhere as well.
        if gone and task.uncancel() <= before:
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        for each in looking:
            each.cancel()
