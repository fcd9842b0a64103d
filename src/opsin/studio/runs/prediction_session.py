"""Images classified in the browser, and their answers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from fastapi import FastAPI, Request, Response
from numpy.typing import NDArray
from PIL import Image

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ImageError, OpsinError
from opsin.core.files import FileStamp, file_stamp
from opsin.core.format import file_size
from opsin.core.metadata import Preparation, Resize
from opsin.data.images import open_apart
from opsin.data.network_pixels import INVERTED, placement
from opsin.report.inside.decision_sections import overlay
from opsin.runtime.prediction import Prediction
from opsin.studio.datasets.decoded_dataset import png_of
from opsin.studio.errors import NotThere
from opsin.studio.people import visitor
from opsin.studio.runs.classifying import Classifying, ModelContent
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import CLASSIFYING, IMAGES, ComputedOnce
from opsin.studio.words import safe
from opsin.web.refusals import BadRequest, RequestError, json_reply

#: Most images kept; the oldest are dropped.
MOST: Final = 200
# Most bytes of all of them, of one, and of a camera's frame.
_BYTES: Final = 96 << 20
_ONE: Final = 32 << 20
_FRAME: Final = 1 << 20
# Classifiers whose files are kept; most bytes of answers and of heat maps, each of which
# counts as so many at least.
_OPENED: Final = 2
_ANSWERS: Final = 64 << 20
_ANSWER: Final = 160 << 10
# Most frames of a visitor that wait for an answer: a camera sends the next one after it.
_FRAMES: Final = 2
# Classes that an answer to a frame names.
_NAMED: Final = 20
#: Longest side of a shown image in pixels, and of a small one.
SIDE, SMALL = 1024, 320

_Stamp = tuple[str, FileStamp]
_Asked = tuple[_Stamp, str]


class TooManyFrames(RequestError, status=429):  # noqa: N818
    """A visitor's earlier frames are not answered yet."""


class UploadedImage(NamedTuple):
    """An image as uploaded."""

    name: str
    content: bytes


class PredictionSession:
    """Images chosen, dropped, pasted or photographed; kept in memory until the studio ends."""

    def __init__(self, runs: RunIndex) -> None:
        self._runs = runs
        self._kept: OrderedDict[str, UploadedImage] = OrderedDict()
        self._secret = secrets.token_bytes(16)
        #: Images that joined a class, by dataset and key: the class, and their file there.
        self.joined: dict[tuple[str, str], tuple[str, Path]] = {}
        self._classifying = Classifying()
        self._opened = ComputedOnce[_Stamp, ModelContent](_OPENED)
        self._answers = ComputedOnce[_Asked, Prediction](
            _ANSWERS, lambda answer: max(answer.pixels.nbytes, _ANSWER)
        )
        self._heats = ComputedOnce[_Asked, bytes](_ANSWERS, lambda heat: max(len(heat), _ANSWER))
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
        self._kept[key] = UploadedImage(name, content)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST or sum(len(i.content) for i in self._kept.values()) > _BYTES:
            self._kept.popitem(last=False)
        return key

    def get(self, key: str) -> UploadedImage:
        """Return an image."""
        kept = self._kept.get(key)
        if kept is None:
            raise NotThere("The image is not there any more", "Give it again.")
        return kept

    async def answer(self, run: str, key: str) -> Prediction:
        """The answer of a run's classifier to an image."""
        return (await self._answered(run, key))[2]

    async def heat(self, run: str, key: str) -> bytes:
        """A heat map over the image, as a PNG file."""
        stamp, model, answer = await self._answered(run, key)
        kept = self.get(key)

        def draw() -> bytes:
            heat, resize = self._classifying.heat(model, answer)
            pixels = answer.pixels
            if not any(note.endswith(INVERTED) for note in answer.notes):
                pixels, _ = open_apart(kept.content, kept.name, side=SIDE)
                heat = on_photograph(heat, resize, (pixels.shape[0], pixels.shape[1]))
            return png_of(overlay(pixels, heat))

        return await self._heats.get((stamp, key), lambda: CLASSIFYING.run(draw))

    async def live(self, run: str, frame: bytes) -> Prediction:
        """The answer to a camera's frame, which is not kept."""
        person = visitor.get().person.id
        if self._frames[person] >= _FRAMES:
            raise TooManyFrames("Earlier pictures are not answered yet", "Close other cameras.")
        self._frames[person] += 1
        try:
            directory = await IMAGES.run(self._runs.get, run)
            with _without_path(directory):
                _, model = await self._classifier(directory)
                return await CLASSIFYING.run(self._classifying.predict, model, frame, "the frame")
        finally:
            self._frames[person] -= 1

    async def _answered(self, run: str, key: str) -> tuple[_Stamp, ModelContent, Prediction]:
        kept, directory = self.get(key), await IMAGES.run(self._runs.get, run)
        with _without_path(directory):
            stamp, model = await self._classifier(directory)
            answer = await self._answers.get(
                (stamp, key),
                lambda: CLASSIFYING.run(self._classifying.predict, model, kept.content, kept.name),
            )
            return stamp, model, answer

    async def _classifier(self, directory: RunDirectory) -> tuple[_Stamp, ModelContent]:
        stamp = str(directory.path), await IMAGES.run(file_stamp, directory.classifier)
        model = await self._opened.get(stamp, lambda: IMAGES.run(ModelContent.read, directory))
        return stamp, model

    def stop(self) -> None:
        """End the sandboxed processes."""
        self._classifying.close()


async def png_for_pages(image: UploadedImage, *, small: bool = False) -> bytes:
    """An image as a PNG file, upright and scaled; it is opened in a sandbox."""
    side = SMALL if small else SIDE
    pixels, _ = await IMAGES.run(open_apart, image.content, image.name, side=side)
    return await IMAGES.run(png_of, pixels)


def without_path(error: OpsinError, directory: RunDirectory) -> OpsinError:
    """Return an error about a run without its path, which no page shows."""
    path, name = str(directory.path.absolute()), directory.path.name
    return error.replace(f"{path}{os.sep}", "").replace(path, name)


@contextlib.contextmanager
def _without_path(directory: RunDirectory) -> Iterator[None]:
    try:
        yield
    except OpsinError as error:
        raise without_path(error, directory) from None


def add_routes(api: FastAPI, tried: PredictionSession) -> None:
    """Add the routes for images, heat maps and answers, by opaque names only."""

    @api.get("/kept/{key}.png")
    async def kept(key: str, small: bool = False) -> Response:
        headers = {"cache-control": "private, max-age=86400"}  # keys are never reused
        content = await png_for_pages(tried.get(key), small=small)
        return Response(content, media_type="image/png", headers=headers)

    @api.get("/heat/{run}/{key}.png")
    async def heat(run: str, key: str) -> Response:
        headers = {"cache-control": "no-store"}  # the run's classifier may change
        return Response(await tried.heat(run, key), media_type="image/png", headers=headers)

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


def on_photograph(
    heat: NDArray[np.float32], resize: Resize, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Put a heat map of the network's pixels where they lie on a photograph (height, width)."""
    (high, wide), (height, width) = heat.shape, size
    prepared = Preparation(height=high, width=wide, channels=1, resize=resize)
    inner, box = placement(width, height, prepared)
    left, top, right, bottom = map(round, box)
    down, along = (high - inner[1]) // 2, (wide - inner[0]) // 2
    seen = Image.fromarray(heat[down : down + inner[1], along : along + inner[0]])
    whole = np.zeros(size, np.float32)
    area = (right - left, bottom - top)
    whole[top:bottom, left:right] = np.asarray(seen.resize(area, Image.Resampling.BILINEAR))
    return whole
