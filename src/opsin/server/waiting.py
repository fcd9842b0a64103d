"""Pending requests, and the bounded queue of their images."""

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

#: Most bytes of a batch, unless a single image is larger: decoding
#: time grows with size, and later images wait for the whole batch.
BATCH_BYTES: Final = 4_000_000


@dataclass(frozen=True)
class ImageToAnswer:
    """An image to classify: a file's content, or prepared pixels ``uint8[H, W, C]``."""

    image: bytes | NDArray[np.uint8] = field(repr=False)
    as_is: bool = False  # leave the background as it is
    embedding: bool = False  # also return the last layer's features
    explain: bool = False  # also return the heat map; computed alone

    @property
    def content(self) -> bytes:
        """The image as bytes."""
        return self.image.tobytes() if isinstance(self.image, np.ndarray) else self.image


@dataclass(frozen=True)
class PredictResult:
    """The answer to one image."""

    probabilities: NDArray[np.float32] = field(repr=False)  # float32[K], in the file's order
    ood_score: float | None = None  # 0 (like the training images) to 2; None if unknown
    rejected: bool | None = None  # whether it is "none of these"; None without a threshold
    notes: tuple[str, ...] = ()  # preparation beyond decoding and resizing
    # float32[D] and float32[H, W], if requested.
    embedding: NDArray[np.float32] | None = field(repr=False, default=None)
    heat: NDArray[np.float32] | None = field(repr=False, default=None)


#: The outcome for one image.
Result = PredictResult | ImageError | BadAnswer


@dataclass(eq=False, slots=True)
class QueueEntry:
    """One image in the queue; `place` is its index in the request."""

    request: PendingRequest
    place: int
    size: int
    alone: bool  # whether it gets its own batch

    @property
    def image(self) -> ImageToAnswer:
        """The image itself."""
        return self.request.images[self.place]


class PendingRequest:
    """Images sent together, and their answers so far.

    All answers come from the model as it was when the request came, even if its
    file changes.
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
    """Images in order of arrival, bounded."""

    def __init__(self, most: int) -> None:
        self.most = most
        # An ordered dictionary, for fast removal from the middle.
        self._entries: OrderedDict[QueueEntry, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entries: Sequence[QueueEntry]) -> bool:
        """Queue all images, or none if there is no room (``False``)."""
        if len(self) + len(entries) > self.most:
            return False
        self._entries.update(dict.fromkeys(entries))
        return True

    def drop(self, entry: QueueEntry) -> None:
        """Remove an image if it still waits."""
        self._entries.pop(entry, None)

    def take(self, *, most: int, among: int = 1, least: int = 1) -> list[QueueEntry]:
        """Take the next batch: images of the model that has waited longest.

        Args:
            most: Most images of the batch.
            among: Number of free workers, which share the waiting images evenly.
            least: Take nothing if fewer images wait for the model.
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
