"""Requests on their way through the engine, and the bounded queue of their images."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.child_process import Header
from opsin.core.errors import ImageError
from opsin.core.metadata import Preparation
from opsin.server.errors import BadAnswer
from opsin.server.models import ModelVersion

#: Bytes of images that are given to a worker together, unless a single one is larger: decoding
#: takes time by their size, and those behind a batch wait for all of it.
BATCH_BYTES: Final = 4_000_000

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageToAnswer:
    """One image to be answered: a file's content, or prepared pixels ``uint8[H, W, C]``."""

    image: bytes | NDArray[np.uint8] = field(repr=False)
    as_is: bool = False  # leave the background as it is
    embedding: bool = False  # return what the last layer sees, too
    explain: bool = False  # return what the answer rests on, too; it is computed alone

    @property
    def content(self) -> bytes:
        """The image as bytes."""
        return self.image.tobytes() if isinstance(self.image, np.ndarray) else self.image


@dataclass(frozen=True)
class PredictResult:
    """The answer to one image."""

    probabilities: NDArray[np.float32] = field(repr=False)  # float32[K], in the file's order
    ood_score: float | None  # 0 (like the training images) to 2; None: the file cannot tell
    rejected: bool | None  # whether it is "none of these"; None: the file cannot tell
    notes: tuple[str, ...] = ()  # what was done to the image beyond decoding and resizing
    # float32[D] and float32[H, W], where they were asked for.
    embedding: NDArray[np.float32] | None = field(repr=False, default=None)
    heat: NDArray[np.float32] | None = field(repr=False, default=None)


#: What becomes of one image.
Result = PredictResult | ImageError | BadAnswer


@dataclass(eq=False, slots=True)
class QueueEntry:
    """One image in the queue; `place` says which of its request's."""

    request: PendingRequest
    place: int
    size: int
    alone: bool  # whether it is computed in a batch of its own
    arrival: int = 0


class PendingRequest:
    """Images that were sent together, and their answers so far.

    All the answers come from the model as it was when the request came, whatever happens to its
    file meanwhile.
    """

    def __init__(
        self, model: ModelVersion, images: Sequence[ImageToAnswer], now: float, deadline: float
    ) -> None:
        self.model, self.images = model, images
        self.came, self.until = now, deadline
        self.results: list[Result | None] = [None] * len(images)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.entries: list[QueueEntry] = []
        assert model.served is not None
        for place, asked in enumerate(images):
            if isinstance(asked.image, np.ndarray):
                size = asked.image.nbytes
                self.results[place] = _mismatch(asked.image, model.served.metadata.preparation)
            else:
                size = len(asked.image)
            if self.results[place] is None:
                self.entries.append(QueueEntry(self, place, size, asked.explain))
        self.left = len(self.entries)

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


class RequestQueue:
    """A queue of images with two bounds: how many, and how many bytes.

    Each model has a lane. The lane whose first image has waited longest is served next; within a
    lane, order is by arrival.
    """

    def __init__(self, images: int, size: int) -> None:
        self.most_images, self.most_bytes = images, size
        self.images = self.bytes = 0
        # Ordered dictionaries, so that an entry leaves from the middle of a lane at once.
        self._lanes: dict[ModelVersion, OrderedDict[QueueEntry, None]] = {}
        self._arrivals = 0

    def add(self, entries: Sequence[QueueEntry]) -> bool:
        """Let images wait: all of them, or none where there is no room (``False``)."""
        size = sum(entry.size for entry in entries)
        if self.images + len(entries) > self.most_images or self.bytes + size > self.most_bytes:
            return False
        for entry in entries:
            self._arrivals += 1
            entry.arrival = self._arrivals
            self._lanes.setdefault(entry.request.model, OrderedDict())[entry] = None
        self.images += len(entries)
        self.bytes += size
        return True

    def __iter__(self) -> Iterator[QueueEntry]:
        """Yield those that wait."""
        return chain.from_iterable(self._lanes.values())

    def drop(self, entry: QueueEntry) -> None:
        """Free an image's place, where it still waits."""
        lane = self._lanes.get(entry.request.model)
        if lane is None or entry not in lane:
            return
        del lane[entry]
        self.images -= 1
        self.bytes -= entry.size
        if not lane:
            del self._lanes[entry.request.model]

    def take(self, *, most: int, among: int = 1, least: int = 1) -> list[QueueEntry]:
        """Take the next batch: images of one model, those that waited longest.

        Args:
            most: Images of the batch, at most.
            among: Workers that are free: what waits is shared out evenly between them.
            least: Take nothing where fewer images than this wait for the model.
        """
        if not self._lanes:
            return []
        lane = min(self._lanes.values(), key=lambda lane: next(iter(lane)).arrival)
        if len(lane) < least:
            return []
        count = min(most, -(-len(lane) // among))
        batch: list[QueueEntry] = []
        size = 0
        while lane and len(batch) < count:
            entry = next(iter(lane))
            if batch and (size + entry.size > BATCH_BYTES or entry.alone or batch[0].alone):
                break
            self.drop(entry)
            batch.append(entry)
            size += entry.size
        return batch


def pack_batch(entries: Sequence[QueueEntry], *, max_pixels: int) -> tuple[Header, list[bytes]]:
    """Put the images of a batch as a worker takes them (see `opsin.server.worker.answer`)."""
    images, parts = [], []
    for entry in entries:
        asked = entry.request.images[entry.place]
        content = asked.content
        shape = asked.image.shape if isinstance(asked.image, np.ndarray) else None
        images.append((len(content), shape, asked.as_is, asked.embedding, asked.explain))
        parts.append(content)
    return {"max_pixels": max_pixels, "images": images}, parts


def unpack_reply(
    entries: Sequence[QueueEntry], header: Header, body: bytes
) -> Iterator[tuple[QueueEntry, Result, int]]:
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
        if error := errors.get(str(place)):
            yield entry, _error(entry.request.model, *error), 0
            continue
        wanted = entry.request.images[entry.place].embedding
        result = PredictResult(
            probabilities=probabilities[row],
            ood_score=None if ood_score is None else ood_score[row],
            rejected=None if rejected is None else bool(rejected[row]),
            notes=tuple(notes.get(str(place), ())),
            embedding=embedding[row] if wanted and embedding is not None else None,
            heat=heats.get(row),
        )
        yield entry, result, best[row]
        row += 1


def _error(model: ModelVersion, kind: str, *parts: str) -> ImageError | BadAnswer:
    """The error that a worker reports, without what only the server's owner may read."""
    if kind == "ImageError":
        return ImageError(*parts)
    assert model.served is not None
    _LOG.error("model %s gave no sound answer: %s", model.served.name, parts[1])
    return BadAnswer(
        "a sound answer",
        f"the model {model.served.name} gives none to this image",
        "Tell the server's administrator: the model's file may be damaged.",
    )
