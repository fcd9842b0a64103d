"""Images listed, decoded and computed at once."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from opsin.core.errors import ImageError
from opsin.data.lazy_images import THREADS

# Images that a thread decodes before it looks for other work.
_CHUNK: Final = 8
# Whole batches that may be on their way to an answer, and bytes of images in them.
_BATCHES: Final = 3
_WAITING: Final = 64 << 20
# Images that another machine is sent at once, and blocks of them on their way for each processor.
_BLOCK: Final = 256
_BLOCKS_AHEAD: Final = 4
# Seconds that a decoded image waits for its batch to fill up: names on standard input may come
# slowly, and a user who watches wants to see something.
_PATIENCE: Final = 0.1
# Seconds that the end waits for the thread that asks for the next image, and may never get it.
_FAREWELL: Final = 0.5

_Item = TypeVar("_Item")
_Prepared = TypeVar("_Prepared")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Done(Generic[_Answer]):
    """The answer to an image that needs no computing."""

    answer: _Answer


@dataclass(frozen=True)
class ImageSteps(Generic[_Item, _Prepared, _Answer]):
    """What is done to each image; several threads call each function."""

    #: Decodes an image, or knows its answer; raises `ImageError` where it cannot be read.
    prepare: Callable[[_Item], _Prepared | Done[_Answer]]
    #: Answers a batch, in its order.
    compute: Callable[[list[_Prepared]], Sequence[_Answer]]
    #: Bytes that an image takes while it is on its way.
    cost: Callable[[_Item], int]
    batch: int  # images computed at once, at most
    together: int  # batches computed at the same time


def answer_images(
    steps: ImageSteps[_Item, _Prepared, _Answer],
    images: Iterable[_Item],
    *,
    end_wait: Callable[[], None] = lambda: None,
) -> Generator[tuple[_Item, _Answer | ImageError]]:
    """Yield each image with its answer, or the reason why there is none, in their order.

    Threads list, decode and compute ahead of the caller, by a few batches and no more, so that the
    memory is the same for ten images and ten million. They end when the iterator is closed, and
    ``end_wait`` ends a wait for the next image.

    Example:
        >>> steps = ImageSteps(
        ...     prepare=len, compute=lambda batch: [2 * n for n in batch], cost=len, batch=8,
        ...     together=1,
        ... )
        >>> list(answer_images(steps, ["a", "bcd"]))
        [('a', 2), ('bcd', 6)]
    """
    engine = _Engine(steps, iter(images))
    try:
        engine.start()
        yield from engine.answers()
    finally:
        engine.stop(end_wait)


def answer_blocks(
    executor: Executor,
    answer: Callable[[list[_Item]], Sequence[_Answer | ImageError]],
    images: Iterable[_Item],
    *,
    cost: Callable[[_Item], int],
    slots: Callable[[], int],
    count: int | None = None,
) -> Generator[tuple[_Item, _Answer | ImageError]]:
    """Yield each image with its answer, or the reason why there is none, in their order.

    Blocks of images are answered by an executor, such as `opsin.runtime.cluster.Cluster`, a few
    for each of its slots and no more. Images of a block whose process died are answered alone; one
    that ends a process by itself has an error for an answer.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(answer_blocks(
        ...         pool, lambda block: [len(each) for each in block], ["a", "bcd"], cost=len,
        ...         slots=lambda: 2,
        ...     ))
        [('a', 1), ('bcd', 3)]
    """
    waiting: deque[tuple[list[_Item], Future[Sequence[_Answer | ImageError]]]] = deque()

    def first() -> Iterator[tuple[_Item, _Answer | ImageError]]:
        items, future = waiting.popleft()
        try:
            yield from zip(items, future.result(), strict=True)
        except BrokenExecutor:
            if len(items) == 1:
                wanted = "an image that can be read"
                yield items[0], ImageError(wanted, "reading it ended the process", "Look at it.")
                return
            for item in reversed(items):
                waiting.appendleft(([item], executor.submit(answer, [item])))

    most = _BLOCK
    if count is not None:  # few are shared out as well
        most = min(most, max(_CHUNK, count // (_BLOCKS_AHEAD * slots())))
    try:
        for items in _in_blocks(images, cost, most):
            waiting.append((items, executor.submit(answer, items)))
            while waiting and (waiting[0][1].done() or len(waiting) >= _BLOCKS_AHEAD * slots()):
                yield from first()
        while waiting:
            yield from first()
    finally:
        for _, future in waiting:
            future.cancel()


def _in_blocks(
    images: Iterable[_Item], cost: Callable[[_Item], int], most: int
) -> Iterator[list[_Item]]:
    """Yield images together, so many or so many bytes."""
    items: list[_Item] = []
    weight = 0
    for item in images:
        items.append(item)
        weight += cost(item)
        if len(items) >= most or weight >= _WAITING // 8:
            yield items
            items, weight = [], 0
    if items:
        yield items


class _Slot(Generic[_Item, _Prepared, _Answer]):
    """An image on its way, and its answer once there is one."""

    __slots__ = ("answer", "cost", "item", "prepared", "since")

    def __init__(self, item: _Item, cost: int) -> None:
        self.item = item
        self.cost = cost
        self.prepared: _Prepared | None = None
        self.since = 0.0
        self.answer: _Answer | ImageError | None = None


class _Engine(Generic[_Item, _Prepared, _Answer]):
    """A thread lists, a pool decodes and computes; who takes the answers directs both.

    The pool has as many threads as cores, so that decoding and computing do not take the cores
    from each other. What happens elsewhere arrives as an event, and only the director, in
    `answers`, changes what is on its way.
    """

    def __init__(
        self, steps: ImageSteps[_Item, _Prepared, _Answer], items: Iterator[_Item]
    ) -> None:
        self._steps, self._items = steps, items
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._slots: deque[_Slot[_Item, _Prepared, _Answer]] = deque()  # all, in their order
        self._listed: deque[_Slot[_Item, _Prepared, _Answer]] = deque()
        self._decoded: deque[_Slot[_Item, _Prepared, _Answer]] = deque()
        self._decoding = self._computing = 0
        self._ended = False
        self._error: BaseException | None = None
        # What the listing thread waits for.
        self._room = threading.Condition()
        self._count = self._cost = 0
        self._stopped = False
        self._lister = threading.Thread(target=self._list, name="opsin-listing", daemon=True)
        self._pool = ThreadPoolExecutor(THREADS, "opsin-images")

    def start(self) -> None:
        self._lister.start()

    def stop(self, end_wait: Callable[[], None]) -> None:
        """End the threads, after what each has in hand, and let go of the source."""
        with self._room:
            self._stopped = True
            self._room.notify()
        end_wait()
        self._pool.shutdown(cancel_futures=True)
        if self._lister.ident is not None:  # it was started
            self._lister.join(_FAREWELL)
        close = getattr(self._items, "close", None)
        if close and not self._lister.is_alive():
            close()

    def answers(self) -> Iterator[tuple[_Item, _Answer | ImageError]]:
        """Yield the answers in the stream's order."""
        while self._slots or not self._ended:
            # On Windows, only a wait that ends sees Ctrl-C.
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=_PATIENCE if self._decoded else 1.0)()
                while True:
                    self._events.get_nowait()()
            done = []
            while self._slots and self._slots[0].answer is not None:
                done.append(self._slots.popleft())
            if done:
                with self._room:
                    self._count -= len(done)
                    self._cost -= sum(slot.cost for slot in done)
                    self._room.notify()
            self._direct()
            for slot in done:
                if slot.answer is not None:
                    yield slot.item, slot.answer
        if self._error is not None:
            raise self._error

    def _direct(self) -> None:
        # What is nearest to its answer first, so that little is on its way.
        while self._computing < self._steps.together and self._is_batch_due():
            self._computing += 1
            self._submit(self._compute, self._decoded, self._steps.batch)
        while self._listed and self._decoding < THREADS:
            self._decoding += 1
            self._submit(self._decode, self._listed, min(_CHUNK, 1 + len(self._listed) // THREADS))

    def _submit(
        self,
        work: Callable[[list[_Slot[_Item, _Prepared, _Answer]]], Callable[[], None]],
        waiting: deque[_Slot[_Item, _Prepared, _Answer]],
        most: int,
    ) -> None:
        slots = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        future = self._pool.submit(work, slots)
        future.add_done_callback(lambda done: self._events.put(lambda: self._settle(done)))

    def _settle(self, done: Future[Callable[[], None]]) -> None:
        """Note in the director's thread what another has done, or raise its error."""
        done.result()()

    def _has_room(self) -> bool:
        ahead = _BATCHES * self._steps.batch * self._steps.together
        return self._count < ahead and self._cost < _WAITING

    def _is_batch_due(self) -> bool:
        if not self._decoded or len(self._decoded) >= self._steps.batch:
            return bool(self._decoded)
        no_more = not (self._listed or self._decoding) and (self._ended or not self._has_room())
        return no_more or time.monotonic() - self._decoded[0].since > _PATIENCE

    def _list(self) -> None:
        """Ask for images while there is room for them."""
        error = None
        try:
            for item in self._items:
                slot: _Slot[_Item, _Prepared, _Answer] = _Slot(item, self._steps.cost(item))
                with self._room:
                    self._count += 1
                    self._cost += slot.cost
                self._events.put(functools.partial(self._add, slot))
                with self._room:
                    self._room.wait_for(lambda: self._stopped or self._has_room())
                    if self._stopped:
                        return
        except BaseException as caught:  # noqa: BLE001  it is raised behind the last answer
            error = caught
        self._events.put(functools.partial(self._end, error))

    def _add(self, slot: _Slot[_Item, _Prepared, _Answer]) -> None:
        self._slots.append(slot)
        self._listed.append(slot)

    def _end(self, error: BaseException | None) -> None:
        self._ended, self._error = True, error

    def _decode(self, chunk: list[_Slot[_Item, _Prepared, _Answer]]) -> Callable[[], None]:
        for slot in chunk:
            if self._stopped:
                break
            try:
                found = self._steps.prepare(slot.item)
            except ImageError as error:
                slot.answer = _without_frames(error)
                continue
            if isinstance(found, Done):
                slot.answer = found.answer
            else:
                slot.prepared, slot.since = found, time.monotonic()

        def after() -> None:
            self._decoding -= 1
            self._decoded.extend(slot for slot in chunk if slot.prepared is not None)

        return after

    def _compute(self, batch: list[_Slot[_Item, _Prepared, _Answer]]) -> Callable[[], None]:
        images = [slot.prepared for slot in batch if slot.prepared is not None]
        for slot, answer in zip(batch, self._steps.compute(images), strict=True):
            slot.answer, slot.prepared = answer, None

        def after() -> None:
            self._computing -= 1

        return after


def _without_frames(error: ImageError) -> ImageError:
    """Return an error without its traceback, which would keep the image in memory."""
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error
