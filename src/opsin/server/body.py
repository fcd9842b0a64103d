"""Request bodies read into images, within limits that hold as they arrive.

Nothing is written to disk or decompressed, and no more is kept than the limits allow: of
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
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from opsin.core.platform import return_memory
from opsin.server.errors import Overloaded, SlowRequest, TooLarge, WrongMediaType
from opsin.server.settings import ServerSettings
from opsin.web.refusals import BadRequest

#: Seconds that a request waits before its client is checked.
LOOK_AFTER: Final = 0.25
# Most bytes of all bodies together, as a multiple of the largest body.
_TOGETHER: Final = 25
# Bytes of bodies after which freed memory is returned to the system.
_TRIMMED: Final = 256_000_000
_ADDRESS: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_FORM_ADVICE: Final = "With curl: -F image=@boot.png, once for each image."
T = TypeVar("T")


@dataclass(frozen=True)
class Upload:
    """An uploaded image, with its file name if given."""

    name: str
    content: bytes = field(repr=False)


class MemoryBudget:
    """The bytes that the bodies of all requests may take together."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._returned = 0

    @classmethod
    def of(cls, settings: ServerSettings) -> MemoryBudget:
        """A budget for many of the largest bodies."""
        return cls(_TOGETHER * settings.max_bytes)

    def take(self, size: int) -> None:
        """Reserve bytes, or raise `Overloaded`."""
        if size > self.left:
            message = "The images of other requests fill the server's memory"
            raise Overloaded(message, "Try again.", retry_after=1)
        self.left -= size

    def give(self, size: int) -> None:
        """Release bytes."""
        self.left += size
        self._returned += size
        if self._returned >= _TRIMMED:
            self._returned = 0
            gc.collect()  # a traceback may hold a body in a reference cycle
            return_memory()


@contextlib.contextmanager
def limited(request: Request, settings: ServerSettings, budget: MemoryBudget) -> Iterator[Request]:
    """The request with a limited body, which may raise `TooLarge` or `Overloaded`."""
    most, taken = settings.max_bytes, 0
    stated = request.headers.get("content-length", "")

    def too_large(size: str) -> TooLarge:
        message = f"The body has {size} bytes, and {most:,} are allowed"
        return TooLarge(message, "Send smaller images, or fewer at a time.")

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        size = len(message.get("body", b""))
        if taken + size > most:
            raise too_large("more")
        budget.take(size)
        taken += size
        return message

    if stated.isascii() and stated.isdigit() and int(stated) > most:
        raise too_large(f"{int(stated):,}")
    try:
        yield Request(request.scope, receive)
    finally:
        budget.give(taken)


async def read_body(request: Request, settings: ServerSettings) -> bytes:
    """Read an uncompressed body by the deadline.

    Raises:
        WrongMediaType: It is compressed.
        SlowRequest: It did not arrive in time.
    """
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise WrongMediaType(
            f"The body is compressed ({coding[:40]!r})",
            "Images are compressed already; send them as they are.",
        )
    try:
        async with asyncio.timeout(settings.deadline):
            return await request.body()
    except TimeoutError:
        raise SlowRequest(f"The body was not there within {settings.deadline:g} s") from None


async def read_images(request: Request, settings: ServerSettings, most: int) -> list[Upload]:
    """Read at most so many images of a `limited` request: raw, as a form, or as JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    raw = kind.startswith("image/") or kind in ("", "application/octet-stream")
    if not raw and kind not in ("application/json", "multipart/form-data"):
        raise WrongMediaType(
            f"A body of Content-Type {kind[:80]!r} is not read; an image (image/… or "
            "application/octet-stream), multipart/form-data or application/json is expected",
            "For one image: curl --data-binary @boot.png -H 'Content-Type: image/png' ADDRESS",
        )
    content = await read_body(request, settings)
    if kind == "application/json":
        return images_of_json(content, most)
    if kind == "multipart/form-data":
        return await _images_of_form(content, request.headers, most)
    if not content:
        raise BadRequest("The body is empty", "Send the file's bytes as the body.")
    return [Upload("image", content)]


def _too_many(most: int) -> TooLarge:
    images = "one image" if most == 1 else f"{most:,} images"
    return TooLarge(f"At most {images} may be in a request", "Send them in several requests.")


class _Form(MultiPartParser):
    """Starlette's form parser, which records whether the form was complete."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _images_of_form(content: bytes, headers: Headers, most: int) -> list[Upload]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield content
        if not form.ended:
            raise MultiPartException("The body ends before the form does")

    form = _Form(headers, whole(), max_files=most, max_fields=0)
    form.spool_max_size = len(content) + 1  # keep it in memory, off the disk
    try:
        parts = (await form.parse()).multi_items()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(most) from None
        message = error.message.rstrip(".")
        if message.startswith("Too many fields"):
            message = "A part of the form is no file; options such as top belong behind the ?"
        raise BadRequest(message, _FORM_ADVICE) from None
    uploads = []
    for number, (_, file) in enumerate(parts, 1):
        assert isinstance(file, UploadFile)
        image = file.file.read()
        file.file.close()
        if image or file.filename:  # else an empty file field of a page
            uploads.append(Upload(file.filename or f"image {number}", image))
    if not uploads:
        raise BadRequest("The form holds no file", _FORM_ADVICE)
    return uploads


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("it is no text")  # noqa: TRY004  as pydantic expects
    if address := _ADDRESS.match(text):
        text = text[address.end() :]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # includes binascii.Error
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
    # Counted before parsing: each "[]," would become an object of twenty times its size. A
    # data: URL has one comma, and another separates two of them.
    if content.count(b",") > 2 * most:
        raise _too_many(most)
    try:
        body = JsonImages.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:60]
        reason = f"{where}: {first['msg']}" if where else first["msg"]
    else:
        if len(body.images) > most:
            raise _too_many(most)
        if body.image is not None and not body.images:
            return [Upload("image", body.image)]
        if body.images and body.image is None:
            return [Upload(f"images[{i}]", image) for i, image in enumerate(body.images)]
        reason = "it holds none, or both image and images"
    raise BadRequest(
        f"The JSON is not one or many images: {' '.join(reason.split())[:200]}",
        'Send {"image": "…"} or {"images": ["…", "…"]} with base64 or data: addresses.',
    )


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Wait for work; cancel it with ``ClientDisconnect`` once the client has gone.

    A disconnected client would keep its place in the queue until the deadline, and the server would
    compute in vain. Checking costs a task, so only requests that wait for a while do it: others
    need only a timer. The request's body must have been read.
    """
    task = asyncio.current_task()
    assert task is not None
    before, gone = task.cancelling(), False
    looking: list[asyncio.Task[None]] = []

    async def look() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass  # the end of the body may be repeated
        gone = True
        task.cancel()

    loop = asyncio.get_running_loop()
    timer = loop.call_later(LOOK_AFTER, lambda: looking.append(loop.create_task(look())))
    try:
        return await work
    except asyncio.CancelledError:
        # As in `asyncio.timeout`: the task may also have been cancelled from elsewhere.
        if gone and task.uncancel() <= before:
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        for watch in looking:
            watch.cancel()
