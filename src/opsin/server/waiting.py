"""Requests on their way through the engine, and the bounded queue of their images."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import ImageError
from opsin.server.errors import BadAnswer
from opsin.server.models import ServedModel

#: Bytes of images that are given to a worker together, unless a single one is larger: decoding
#: takes time by their size, and those behind a batch wait for all of it.
BATCH_BYTES: Final = 4_000_000


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
    ood_score: float | None = None  # 0 (like the training images) to 2; None: it cannot tell
    rejected: bool | None = None  # whether it is "none of these"; None: the file cannot tell
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

    @property
    def image(self) -> ImageToAnswer:
        """What is to be answered."""
        return self.request.images[self.place]


class PendingRequest:
    """Images that were sent together, and their answers so far.

    All the answers come from the model as it was when the request came, whatever happens to its
    file meanwhile.
    """

    def __init__(
        self, model: ServedModel, images: Sequence[ImageToAnswer], now: float, deadline: float
    ) -> None:
        self.model, self.images = model, images
        self.came, self.until = now, deadline
        self.results: list[Result | None] = [None] * len(images)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.entries: list[QueueEntry] = []
        preparation = model.metadata.preparation
        shape = (preparation.height, preparation.width, preparation.channels)
        for index, image in enumerate(images):
            pixels = image.image
            if isinstance(pixels, bytes):
                self.entries.append(QueueEntry(self, index, len(pixels), image.explain))
            elif pixels.shape == shape and pixels.dtype == np.uint8:
                self.entries.append(QueueEntry(self, index, pixels.nbytes, image.explain))
            else:
                self.results[index] = ImageError(
                    f"The image is {pixels.dtype}{list(pixels.shape)}, not uint8{list(shape)}",
                    "Send the image's file instead, or prepare it as the model states.",
                )
        self.left = len(self.entries)

    def settle(self, index: int, result: Result) -> None:
        """Store the answer to one image; the last completes the request."""
        self.results[index] = result
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the request without answers."""
        if not self.future.done():
            self.future.set_exception(error)


class RequestQueue:
    """Images in order of arrival, so many at most."""

    def __init__(self, most: int) -> None:
        self.most = most
        # An ordered dictionary, so that an entry leaves from the middle at once.
        self._entries: OrderedDict[QueueEntry, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entries: Sequence[QueueEntry]) -> bool:
        """Let images wait: all of them, or none where there is no room (``False``)."""
        if len(self) + len(entries) > self.most:
            return False
        self._entries.update(dict.fromkeys(entries))
        return True

    def drop(self, entry: QueueEntry) -> None:
        """Free an image's place, where it still waits."""
        self._entries.pop(entry, None)

    def take(self, *, most: int, among: int = 1, least: int = 1) -> list[QueueEntry]:
        """Take the next batch: images of the model whose first image has waited longest.

        Args:
            most: Images of the batch, at most.
            among: Workers that are free: what waits is shared out evenly between them.
            least: Take nothing where fewer images than this wait for the model.
        """
        if not self._entries:
            return []
        model = next(iter(self._entries)).request.model
        same_model = (entry for entry in self._entries if entry.request.model is model)
        candidates = list(islice(same_model, most * among))
        batch: list[QueueEntry] = []
        size = 0
        if len(candidates) >= least:
            for entry in candidates[: -(-len(candidates) // among)]:
                if batch and (size + entry.size > BATCH_BYTES or entry.alone or batch[0].alone):
                    break
                batch.append(entry)
                size += entry.size
        for entry in batch:
            self.drop(entry)
        return batch
