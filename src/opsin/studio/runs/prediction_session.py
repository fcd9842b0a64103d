"""Images classified in the browser, and their answers."""

from __future__ import annotations

import os
import secrets
from collections import OrderedDict
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
from opsin.studio.runs.classifying import Classifying, ModelContent
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import IMAGES, ComputedOnce
from opsin.studio.words import safe
from opsin.web.refusals import BadRequest, json_reply

#: Most images kept; the oldest are dropped.
MOST: Final = 200
# Most bytes of all of them, and of one.
_BYTES: Final = 96 << 20
_ONE: Final = 32 << 20
# Classifiers whose files are kept.
_OPENED: Final = 2
# Most answers and heat maps kept.
_ANSWERS: Final = 400
# Most bytes of a camera's frame.
_FRAME: Final = 1 << 20
# Classes that an answer to a frame names.
_NAMED: Final = 20
#: Longest side of a shown image in pixels, and of a small one.
SIDE, SMALL = 1024, 320

_Stamp = tuple[str, FileStamp]
_Asked = tuple[_Stamp, str]


class UploadedImage(NamedTuple):
    """An image as uploaded."""

    name: str
    content: bytes


class PredictionSession:
    """Images chosen, dropped, pasted or photographed; kept in memory until the studio ends."""

    def __init__(self, runs: RunIndex) -> None:
        self._runs = runs
        self._kept: OrderedDict[str, UploadedImage] = OrderedDict()
        self._keys: dict[UploadedImage, str] = {}
        #: Images that joined a class: the class, and their file there.
        self.joined: dict[str, tuple[str, Path]] = {}
        self._bytes = 0
        self._classifying = Classifying()
        self._opened = ComputedOnce[_Stamp, ModelContent](_OPENED)
        self._answers = ComputedOnce[_Asked, Prediction](_ANSWERS)
        self._heats = ComputedOnce[_Asked, bytes](_ANSWERS)

    def put(self, content: bytes, name: str) -> str:
        """Store an image and return its unguessable key, the same for the same image."""
        if len(content) > _ONE:
            raise ImageError(
                f"The image has {file_size(len(content))}, and {_ONE >> 20} MB are allowed",
                "Make it smaller, or put it into a folder and classify that.",
            )
        image = UploadedImage(name, content)
        if image in self._keys:
            return self._keys[image]
        key = secrets.token_hex(8)
        self._kept[key], self._keys[image] = image, key
        self._bytes += len(content)
        while len(self._kept) > MOST or self._bytes > _BYTES:
            key_of_oldest, oldest = self._kept.popitem(last=False)
            del self._keys[oldest]
            self.joined.pop(key_of_oldest, None)
            self._bytes -= len(oldest.content)
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

        return await self._heats.get((stamp, key), lambda: IMAGES.run(draw))

    async def live(self, run: str, frame: bytes) -> Prediction:
        """The answer to a camera's frame, which is not kept."""
        _, model, directory = await self._classifier(run)
        try:
            return await IMAGES.run(self._classifying.predict, model, frame, "the frame")
        except OpsinError as error:
            raise without_path(error, directory) from None

    async def _answered(self, run: str, key: str) -> tuple[_Stamp, ModelContent, Prediction]:
        kept = self.get(key)
        stamp, model, directory = await self._classifier(run)

        def predict() -> Prediction:
            return self._classifying.predict(model, kept.content, kept.name)

        try:
            answer = await self._answers.get((stamp, key), lambda: IMAGES.run(predict))
        except OpsinError as error:
            raise without_path(error, directory) from None
        return stamp, model, answer

    async def _classifier(self, run: str) -> tuple[_Stamp, ModelContent, RunDirectory]:
        directory = await IMAGES.run(self._runs.get, run)
        stamp = str(directory.path), await IMAGES.run(file_stamp, directory.classifier)
        try:
            model = await self._opened.get(stamp, lambda: IMAGES.run(ModelContent.read, directory))
        except OpsinError as error:
            raise without_path(error, directory) from None
        return stamp, model, directory

    async def image(self, key: str, *, small: bool = False) -> bytes:
        """An image as a PNG file, upright and scaled for pages."""
        kept = self.get(key)
        side = SMALL if small else SIDE
        pixels, _ = await IMAGES.run(open_apart, kept.content, kept.name, side=side)
        return await IMAGES.run(png_of, pixels)

    def stop(self) -> None:
        """End the sandboxed processes."""
        self._classifying.close()


def without_path(error: OpsinError, directory: RunDirectory) -> OpsinError:
    """Return an error about a run without its path, which no page shows."""
    path, name = str(directory.path.absolute()), directory.path.name
    return error.replace(f"{path}{os.sep}", "").replace(path, name)


def add_routes(api: FastAPI, tried: PredictionSession) -> None:
    """Add the routes for images, heat maps and answers, by opaque names only."""

    @api.get("/kept/{key}.png")
    async def kept(key: str, small: bool = False) -> Response:
        headers = {"cache-control": "private, max-age=86400"}  # keys are never reused
        content = await tried.image(key, small=small)
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
