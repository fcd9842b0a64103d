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
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, ValidationError
from pydantic.json_schema import WithJsonSchema
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from opsin.core.platform import return_memory
from opsin.data.pixel_values import png_address
from opsin.server import ServerSettings
from opsin.server.errors import OpenApi, Overloaded, SlowRequest, TooLarge, WrongMediaType
from opsin.web.refusals import BadRequest

#: Seconds that a request waits before its client is checked.
LOOK_AFTER: Final = 0.25
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

    @contextlib.contextmanager
    def lend(self) -> Iterator[Callable[[int], None]]:
        """For the block, a function that reserves bytes, or raises `Overloaded`."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self.left:
                raise Overloaded(
                    "The images of other requests fill the server's memory", "Try again."
                )
            self.left -= size
            taken += size

        try:
            yield take
        finally:
            self.left += taken
            self._returned += taken
            if self._returned >= _TRIMMED:
                self._returned = 0
                gc.collect()  # a traceback may hold a body in a reference cycle
                return_memory()


async def read_body(
    request: Request, settings: ServerSettings, take: Callable[[int], None]
) -> bytes:
    """Read an uncompressed body by the deadline, and `take` its bytes as they arrive."""
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise WrongMediaType(
            f"The body is compressed ({coding[:40]!r})",
            "Images are compressed already; send them as they are.",
        )
    most, size, pieces = settings.max_bytes, 0, list[bytes]()

    def too_large(count: str) -> TooLarge:
        message = f"The body has {count} bytes, and {most:,} are allowed"
        return TooLarge(message, "Send smaller images, or fewer at a time.")

    stated = request.headers.get("content-length", "")
    if stated.isascii() and stated.isdigit() and int(stated) > most:
        raise too_large(f"{int(stated):,}")
    try:
        async with asyncio.timeout(settings.deadline):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise too_large("more")
                take(len(piece))
                pieces.append(piece)
    except TimeoutError:
        raise SlowRequest(f"The body was not there within {settings.deadline:g} s") from None
    return b"".join(pieces)


async def read_images(
    request: Request, settings: ServerSettings, take: Callable[[int], None], most: int
) -> list[Upload]:
    """Read at most so many images: raw, as a form, or as JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    raw = kind.startswith("image/") or kind in ("", "application/octet-stream")
    if not raw and kind not in ("application/json", "multipart/form-data"):
        raise WrongMediaType(
            f"A body of Content-Type {kind[:80]!r} is not read; an image (image/… or "
            "application/octet-stream), multipart/form-data or application/json is expected",
            "For one image: curl --data-binary @boot.png -H 'Content-Type: image/png' ADDRESS",
        )
    content = await read_body(request, settings, take)
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
    """Read `JsonImages`."""
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


def image_body(*, many: bool) -> OpenApi:
    """The body of a predicting route; FastAPI supports one media type only."""
    image = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "items": image["schema"], "minItems": 1}
    form = {"type": "object", "properties": {"image": files}, "required": ["image"]}
    both = disc(), disc(radius=5)
    examples = {"one": {"summary": "One image", "value": {"image": both[0]}}}
    if many:
        examples["many"] = {"summary": "Two images", "value": {"images": list(both)}}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": JsonImages.model_json_schema(), "examples": examples},
            "image/png": image,
            "image/jpeg": image,
            "application/octet-stream": image,
            "multipart/form-data": {"schema": form},
        },
    }


def disc(radius: int = 9) -> str:
    """An example image as a PNG data URL: a light disc on black, 28×28 grey."""
    rows, columns = np.mgrid[:28, :28] - 13.5
    inside = rows**2 + columns**2 <= radius**2
    return png_address((inside * np.uint8(220)).astype(np.uint8)[:, :, None])


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Wait for work, the body being read; raise ``ClientDisconnect`` once the client has gone."""
    # Checking costs a task, so only requests that wait for a while do it: others need a timer.
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
