"""Images that somebody gives to a classifier; kept in memory until the studio ends."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, OrderedDict
from typing import Final

from fastapi import FastAPI, Request, Response

from opsin.core.errors import ImageError
from opsin.core.format import file_size
from opsin.data.images import open_apart
from opsin.runtime.prediction import Prediction
from opsin.studio.datasets.decoded_dataset import png_of
from opsin.studio.errors import NotThere
from opsin.studio.people import visitor
from opsin.studio.runs.workers import GivenImage, Workers
from opsin.studio.threads import IMAGES
from opsin.studio.words import safe
from opsin.web.refusals import BadRequest, RequestError, json_reply

# Most images kept, the oldest are dropped; most bytes of all, of one, and of a camera's frame.
_MOST: Final = 200
_BYTES, _ONE, _FRAME = 96 << 20, 32 << 20, 1 << 20
# Most frames of a visitor that wait for an answer: a camera sends the next one after it.
_FRAMES: Final = 2
# Classes that an answer to a frame names.
_NAMED: Final = 20
# Longest side of a shown image in pixels, and of a small one.
_SIDE, _SMALL = 1024, 320


class TooManyFrames(RequestError, status=429):  # noqa: N818
    """A visitor's earlier frames are not answered yet."""


class TriedImages:
    """Images chosen, dropped, pasted or photographed, and the answers to them."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._kept: OrderedDict[str, GivenImage] = OrderedDict()
        self._secret = secrets.token_bytes(16)
        self._frames = Counter[str]()  # that wait, by visitor

    def put(self, content: bytes, name: str) -> str:
        """Store an image and return its unguessable key, the same for the same image."""
        if len(content) > _ONE:
            raise ImageError(
                f"The image has {file_size(len(content))}, and {_ONE >> 20} MB are allowed",
                "Make it smaller, or put it into a folder and classify that.",
            )
        hashed = hashlib.blake2b(content, key=self._secret, digest_size=8)
        hashed.update(f"\0{name}".encode("utf-8", "replace"))
        key = hashed.hexdigest()
        self._kept[key] = GivenImage(key, name, content)
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST or sum(len(i.content) for i in self._kept.values()) > _BYTES:
            self._kept.popitem(last=False)
        return key

    def get(self, key: str) -> GivenImage:
        """Return an image."""
        if key not in self._kept:
            raise NotThere("The image is not there any more", "Give it again.")
        return self._kept[key]

    async def answer(self, run: str, image: str | GivenImage) -> Prediction:
        """The answer of a run's classifier to an image, or to the one of a key."""
        given = self.get(image) if isinstance(image, str) else image
        values = (await self.workers.ask(run, "predict", given)).values
        return Prediction(**values | {"notes": tuple(values["notes"])})

    async def live(self, run: str, frame: bytes) -> Prediction:
        """The answer to a camera's frame, which is not kept."""
        person = visitor.get().person.id
        if self._frames[person] >= _FRAMES:
            raise TooManyFrames("Earlier pictures are not answered yet", "Close other cameras.")
        self._frames[person] += 1
        try:
            return await self.answer(run, GivenImage("", "the frame", frame))
        finally:
            self._frames[person] -= 1


async def png_for_pages(image: GivenImage, *, small: bool = False) -> Response:
    """An image as a PNG file, upright and scaled; it is opened in a sandbox."""
    side = _SMALL if small else _SIDE
    pixels, _ = await IMAGES.run(open_apart, image.content, image.name, side=side)
    headers = {"cache-control": "private, max-age=86400"}  # addresses are never reused
    return Response(await IMAGES.run(png_of, pixels), media_type="image/png", headers=headers)


def add_routes(api: FastAPI, tried: TriedImages) -> None:
    """Add the routes for images and answers to frames, by opaque names only."""

    @api.get("/kept/{key}.png")
    async def kept(key: str, small: bool = False) -> Response:
        return await png_for_pages(tried.get(key), small=small)

    @api.post("/live/{run}")
    async def live(run: str, request: Request) -> Response:
        frame = bytearray()
        async for piece in request.stream():
            frame += piece
            if len(frame) > _FRAME:
                raise BadRequest("The frame is too large", "Load the page again.")
        answer = await tried.live(run, bytes(frame))
        best = {name for name, _ in answer.top(_NAMED)}
        shares = [(safe(name, 60), p) for name, p in answer.probabilities.items() if name in best]
        warning = answer.warning and "Nothing to recognise"
        return json_reply({"shares": shares, "rejected": answer.rejected, "warning": warning})
