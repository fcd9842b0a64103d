"""A request on its way through the engine."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError
from opsin.core.framing import Header
from opsin.core.metadata import Preparation
from opsin.server.predict_requests import BadAnswer, ImageToAnswer, PredictResult, Result
from opsin.server.request_queue import QueueEntry
from opsin.server.served_model import ModelVersion

_LOG = logging.getLogger(__name__)


class PendingRequest:
    """Images that were sent together, and their answers so far.

    Args:
        model: The model, as it was when the request came: whatever happens to its file, all the
            answers come from the same one.
        images: The images.
        now: When it came.
        deadline: When the client no longer waits for the answers.
    """

    def __init__(
        self, model: ModelVersion, images: Sequence[ImageToAnswer], now: float, deadline: float
    ) -> None:
        self.model = model
        self.images = images
        self.came = now
        self.until = deadline
        self.results: list[Result | None] = [None] * len(images)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.entries: list[QueueEntry[ModelVersion, PendingRequest]] = []
        served = model.served
        assert served is not None
        like = served.metadata.preparation
        for place, asked in enumerate(images):
            size = asked.image.nbytes if isinstance(asked.image, np.ndarray) else len(asked.image)
            wrong = _mismatch(asked.image, like) if isinstance(asked.image, np.ndarray) else None
            if wrong:
                self.results[place] = wrong
                continue
            self.entries.append(QueueEntry(model, size, deadline, self, place, asked.explain))
        self.left = len(self.entries)

    def content(self, place: int) -> bytes:
        """Return an image as it was sent."""
        image = self.images[place].image
        return image.tobytes() if isinstance(image, np.ndarray) else image

    def refuse(self, entry: QueueEntry[ModelVersion, PendingRequest]) -> None:
        """Answer an image with an error before it is queued."""
        self.entries.remove(entry)
        error = ImageError(
            "a readable image",
            "the program that reads images ended over this one",
            "Open it in a viewer and save it again, or leave it out.",
        )
        self.settle(entry.place, error)

    def settle(self, place: int, result: Result) -> None:
        """Store the answer to one image; the last one completes the request."""
        self.results[place] = result
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the request without answers."""
        if not self.future.done():
            self.future.set_exception(error)


def _mismatch(pixels: NDArray[np.uint8], like: Preparation) -> ImageError | None:
    shape = (like.height, like.width, like.channels)
    if pixels.shape == shape and pixels.dtype == np.uint8:
        return None
    return ImageError(
        f"prepared pixels uint8{list(shape)}",
        f"the image is {pixels.dtype}{list(pixels.shape)}",
        "Send the image's file instead, or prepare it as the model states.",
    )


def pack_batch(
    entries: Sequence[QueueEntry[ModelVersion, PendingRequest]], *, max_pixels: int
) -> tuple[Header, list[bytes]]:
    """Put the images of a batch as a worker takes them (see `opsin.server.worker.answer`).

    Args:
        entries: The images.
        max_pixels: Of the largest image that is decoded.
    """
    images, parts = [], []
    for entry in entries:
        asked = entry.request.images[entry.place]
        shape, content = None, asked.image
        if isinstance(content, np.ndarray):
            shape, content = content.shape, content.tobytes()
        images.append((len(content), shape, asked.as_is, asked.embedding, asked.explain))
        parts.append(content)
    return {"max_pixels": max_pixels, "images": images}, parts


def _error(
    entry: QueueEntry[ModelVersion, PendingRequest], kind: str, *parts: str
) -> ImageError | BadAnswer:
    """Return the error that a worker reports, without what only the server's owner may read."""
    if kind == "ImageError":
        return ImageError(*parts)
    served = entry.model.served
    assert served is not None
    _LOG.error("model %s gave no sound answer: %s", served.name, parts[1])
    return BadAnswer(
        "a sound answer",
        f"the model {served.name} gives none to this image",
        "Tell the server's administrator: the model's file may be damaged.",
    )


def unpack_reply(
    entries: Sequence[QueueEntry[ModelVersion, PendingRequest]], header: Header, body: bytes
) -> Iterator[tuple[QueueEntry[ModelVersion, PendingRequest], Result, int]]:
    """Yield each image of a batch with its answer and the place of the best class."""
    errors, notes = header["errors"], header["notes"]
    count, classes = header["shape"]
    start = 0

    def floats(*shape: int) -> NDArray[np.float32]:
        nonlocal start
        values = np.frombuffer(body, np.float32, math.prod(shape), start).reshape(shape)
        start += values.nbytes
        return values

    probabilities = floats(count, classes)
    ood_score = floats(count).tolist() if header.get("ood_score") else None
    embedding = floats(count, header["embedding"]) if header.get("embedding") else None
    heats = {row: floats(height, width) for row, height, width in header["heat"]}
    rejected = body[start : start + count] if header.get("rejected") else None
    best = probabilities.argmax(axis=1).tolist() if count else []
    row = 0
    for place, entry in enumerate(entries):
        error = errors.get(str(place)) if errors else None
        if error:
            yield entry, _error(entry, *error), 0
            continue
        wanted = entry.request.images[entry.place].embedding
        yield (
            entry,
            PredictResult(
                probabilities=probabilities[row],
                ood_score=None if ood_score is None else ood_score[row],
                rejected=None if rejected is None else bool(rejected[row]),
                notes=tuple(notes.get(str(place), ())),
                embedding=embedding[row] if wanted and embedding is not None else None,
                heat=heats.get(row),
            ),
            best[row],
        )
        row += 1
