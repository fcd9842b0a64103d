"""The bounded queue of images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Generic, TypeVar

#: Bytes of images that are given to a worker together, unless a single one is larger: decoding
#: takes time by their size, and those behind a batch wait for all of it.
BATCH_BYTES: Final = 4_000_000

Model = TypeVar("Model", bound=Hashable)
Request = TypeVar("Request")


@dataclass(eq=False, slots=True)
class QueueEntry(Generic[Model, Request]):
    """One image in the queue.

    Args:
        model: Images of one model are computed together.
        size: Its bytes.
        deadline: When its answer is no longer wanted, on the clock of `RequestQueue.take`.
        request: The request that it belongs to.
        place: Which of the request's images it is.
        alone: Whether it takes so long that it must not hold up others in its batch.
    """

    model: Model
    size: int
    deadline: float
    request: Request
    place: int = 0
    alone: bool = False


class RequestQueue(Generic[Model, Request]):
    """A queue of images with two bounds: how many, and how many bytes.

    Each model has a lane, and another one for images that go alone. The lane whose first image
    has waited longest is served next; within a lane, order is by arrival.

    Args:
        images: How many may wait.
        size: How many bytes may wait.

    Example:
        >>> queue = RequestQueue(images=2, size=100)
        >>> boot = QueueEntry("shoes", size=60, deadline=5.0, request="first request")
        >>> queue.add([boot])
        True
        >>> queue.add([QueueEntry("shoes", size=60, deadline=5.0, request="second request")])
        False
        >>> [entry.request for entry in queue.take(now=4.0, most=16)]
        ['first request']
    """

    def __init__(self, images: int, size: int) -> None:
        self.most_images = images
        self.most_bytes = size
        self.images = 0
        self.bytes = 0
        # Ordered dictionaries, so that an entry leaves from the middle of a lane at once.
        self._lanes: dict[tuple[Model, bool], OrderedDict[QueueEntry[Model, Request], int]] = {}
        self._arrivals = 0

    def add(self, entries: Sequence[QueueEntry[Model, Request]]) -> bool:
        """Let images wait: all of them, or none where there is no room (``False``)."""
        size = sum(entry.size for entry in entries)
        if self.images + len(entries) > self.most_images or self.bytes + size > self.most_bytes:
            return False
        for entry in entries:
            lane = self._lanes.setdefault((entry.model, entry.alone), OrderedDict())
            lane[entry] = self._arrivals
            self._arrivals += 1
        self.images += len(entries)
        self.bytes += size
        return True

    def __iter__(self) -> Iterator[QueueEntry[Model, Request]]:
        """Yield those that wait."""
        return chain.from_iterable(self._lanes.values())

    def drop(self, entry: QueueEntry[Model, Request]) -> bool:
        """Free an image's place; ``False``: it does not wait (any more)."""
        key = (entry.model, entry.alone)
        lane = self._lanes.get(key)
        if lane is None or lane.pop(entry, None) is None:
            return False
        self.images -= 1
        self.bytes -= entry.size
        if not lane:
            del self._lanes[key]
        return True

    def take(
        self, now: float, *, most: int, among: int = 1, least: int = 1, alone: bool = True
    ) -> list[QueueEntry[Model, Request]]:
        """Take the next batch: images of one model, those that waited longest.

        Entries whose deadline has passed are dropped instead.

        Args:
            now: The time.
            most: Images of the batch, at most.
            among: Workers that are free: what waits is shared out evenly between them.
            least: Take nothing where fewer images than this wait for the model.
            alone: Whether an image may be taken that goes alone.
        """
        for key in list(self._lanes):
            self._drop_late(key, now)
        lanes = [key for key in self._lanes if alone or not key[1]]
        if not lanes:
            return []
        key = min(lanes, key=lambda key: next(iter(self._lanes[key].values())))
        lane = self._lanes[key]
        if len(lane) < least:
            return []
        count = 1 if key[1] else min(most, -(-len(lane) // among))
        batch: list[QueueEntry[Model, Request]] = []
        size = 0
        while key in self._lanes and len(batch) < count:
            entry = next(iter(lane))
            if batch and size + entry.size > BATCH_BYTES:
                break
            self.drop(entry)
            batch.append(entry)
            size += entry.size
            self._drop_late(key, now)
        return batch

    def _drop_late(self, key: tuple[Model, bool], now: float) -> None:
        """Free the places at a lane's front whose deadline has passed."""
        while (lane := self._lanes.get(key)) and (entry := next(iter(lane))).deadline <= now:
            self.drop(entry)
