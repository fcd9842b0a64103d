"""The bounded queue of pictures that wait."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Generic, TypeVar

#: Bytes of pictures that are given to a worker together, unless a single one is larger: decoding
#: takes time by their size, and those behind a batch wait for all of it.
BATCH_BYTES: Final = 4_000_000

Kind = TypeVar("Kind", bound=Hashable)
Of = TypeVar("Of")


@dataclass(eq=False, slots=True)
class Waiter(Generic[Kind, Of]):
    """One picture's place in the queue.

    Args:
        model: Pictures of one model are computed together.
        size: Its bytes.
        deadline: When nobody wants its answer any more, on the clock that `RequestQueue.take` is
            told.
        of: The request that it belongs to.
        place: Which of the request's pictures it is.
        alone: Whether it takes so long that it must not hold up others in its batch.
    """

    model: Kind
    size: int
    deadline: float
    of: Of
    place: int = 0
    alone: bool = False


class RequestQueue(Generic[Kind, Of]):
    """A queue of pictures with two bounds: how many, and how many bytes.

    Each model has a lane, and another one for pictures that go alone. The lane whose first picture
    has waited longest is served next; within a lane, order is by arrival.

    Args:
        pictures: How many may wait.
        size: How many bytes may wait.

    Example:
        >>> waiting = RequestQueue(pictures=2, size=100)
        >>> boot = Waiter("shoes", size=60, deadline=5.0, of="first request")
        >>> waiting.add([boot])
        True
        >>> waiting.add([Waiter("shoes", size=60, deadline=5.0, of="second request")])
        False
        >>> [waiter.of for waiter in waiting.take(now=4.0, most=16)]
        ['first request']
    """

    def __init__(self, pictures: int, size: int) -> None:
        self.most_pictures = pictures
        self.most_bytes = size
        self.pictures = 0
        self.bytes = 0
        # Ordered dictionaries: whoever leaves from the middle of a queue is gone at once.
        self._lanes: dict[tuple[Kind, bool], OrderedDict[Waiter[Kind, Of], int]] = {}
        self._arrivals = 0

    def add(self, waiters: Sequence[Waiter[Kind, Of]]) -> bool:
        """Let pictures wait: all of them, or none where there is no room (``False``)."""
        size = sum(waiter.size for waiter in waiters)
        if self.pictures + len(waiters) > self.most_pictures or self.bytes + size > self.most_bytes:
            return False
        for waiter in waiters:
            lane = self._lanes.setdefault((waiter.model, waiter.alone), OrderedDict())
            lane[waiter] = self._arrivals
            self._arrivals += 1
        self.pictures += len(waiters)
        self.bytes += size
        return True

    def __iter__(self) -> Iterator[Waiter[Kind, Of]]:
        """Yield those that wait."""
        return chain.from_iterable(self._lanes.values())

    def drop(self, waiter: Waiter[Kind, Of]) -> bool:
        """Free a picture's place; ``False``: it does not wait (any more)."""
        key = (waiter.model, waiter.alone)
        lane = self._lanes.get(key)
        if lane is None or lane.pop(waiter, None) is None:
            return False
        self.pictures -= 1
        self.bytes -= waiter.size
        if not lane:
            del self._lanes[key]
        return True

    def take(
        self, now: float, *, most: int, among: int = 1, least: int = 1, alone: bool = True
    ) -> list[Waiter[Kind, Of]]:
        """Take the next batch: pictures of one model, those that waited longest.

        Whoever's deadline has passed is dropped instead.

        Args:
            now: The time.
            most: Pictures of the batch, at most.
            among: Workers that are free: what waits is shared out evenly between them.
            least: Take nothing where fewer than so many wait for the model.
            alone: Whether a picture may be taken that goes alone.
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
        batch: list[Waiter[Kind, Of]] = []
        size = 0
        while key in self._lanes and len(batch) < count:
            waiter = next(iter(lane))
            if batch and size + waiter.size > BATCH_BYTES:
                break
            self.drop(waiter)
            batch.append(waiter)
            size += waiter.size
            self._drop_late(key, now)
        return batch

    def _drop_late(self, key: tuple[Kind, bool], now: float) -> None:
        """Free the places at a lane's front whose deadline has passed."""
        while (lane := self._lanes.get(key)) and (waiter := next(iter(lane))).deadline <= now:
            self.drop(waiter)
