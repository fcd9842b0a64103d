"""Images listed, decoded and computed at once."""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
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

    prepare: Callable[[_Item], _Prepared | Done[_Answer]]
    compute: Callable[[list[_Prepared]], Sequence[_Answer]]
    cost: Callable[[_Item], int]
    batch: int
    together: int


def answer_images(
    steps: ImageSteps[_Item, _Prepared, _Answer],
    images: Iterable[_Item],
    *,
    end_wait: Callable[[], None] = lambda: None,
) -> Generator[tuple[_Item, _Answer | ImageError]]:
    """Yield each image with its answer, or the reason why there is none, in their order."""
    works = _Works(steps, images, end_wait)
    try:
        works.start()  # here, because Ctrl-C may come before all have started
        yield from works.answers()
    finally:
        works.stop()


def answer_blocks(
    executor: Executor,
    answer: Callable[[list[_Item]], Sequence[_Answer | ImageError]],
    images: Iterable[_Item],
    *,
    cost: Callable[[_Item], int],
    slots: Callable[[], int],
    count: int | None = None,
) -> Generator[tuple[_Item, _Answer | ImageError]]:
    """Yield each image with its answer, or the reason why there is none, in their order."""
    waiting: deque[tuple[list[_Item], Future[Sequence[_Answer | ImageError]]]] = deque()

    def first() -> Iterator[tuple[_Item, _Answer | ImageError]]:
        items, future = waiting.popleft()
        try:
            yield from zip(items, future.result(), strict=True)
        except BrokenExecutor:
            if len(items) == 1:
                error = ImageError(
                    "an image that can be read", "reading it ended the process", "Look at the file."
                )
                yield items[0], error
                return
            half = len(items) // 2
            for part in (items[half:], items[:half]):
                waiting.appendleft((part, executor.submit(answer, part)))

    most = _BLOCK
    if count is not None:
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


class _Works(Generic[_Item, _Prepared, _Answer]):
    """Threads, each of which does what is wanted most: compute a batch, decode, or list."""

    def __init__(
        self,
        steps: ImageSteps[_Item, _Prepared, _Answer],
        images: Iterable[_Item],
        end_wait: Callable[[], None],
    ) -> None:
        self._steps = steps
        self._items = iter(images)
        self._end_wait = end_wait
        self._together, self._batch = steps.together, steps.batch
        self._ahead = _BATCHES * self._batch * self._together

        # Taken by itself, and not through its conditions: these are Python's own code, in which
        # Ctrl-C can come between taking it and being able to give it back.
        self._lock = threading.Lock()
        self._wanted = threading.Condition(self._lock)  # there may be something to do
        self._answered = threading.Condition(self._lock)  # the next answer is there
        self._slots: deque[_Slot[_Item, _Prepared, _Answer]] = (
            deque()
        )  # all that is on its way, in the stream's order
        self._listed: deque[_Slot[_Item, _Prepared, _Answer]] = deque()
        self._decoded: deque[_Slot[_Item, _Prepared, _Answer]] = deque()
        self._cost = 0
        self._lister: threading.Thread | None = None
        self._decoding = self._computing = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        # One may have to wait for the next name; then another must be there to answer.
        self._threads = [
            threading.Thread(target=self._work, name=f"opsin-images-{number}", daemon=True)
            for number in range(max(2, THREADS))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads, after what each has in hand, and let go of the source."""
        with self._lock:
            self._stopped = True
            self._wanted.notify_all()
        self._end_wait()
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join(_FAREWELL if thread is self._lister else None)
        close = getattr(self._items, "close", None)
        if close and self._lister is None:
            close()

    def answers(self) -> Iterator[tuple[_Item, _Answer | ImageError]]:
        """Yield the answers in the stream's order."""
        while True:
            done = self._take()
            if not done:
                break
            for slot in done:
                if slot.answer is not None:
                    yield slot.item, slot.answer
        if self._error:
            raise self._error

    def _take(self) -> list[_Slot[_Item, _Prepared, _Answer]]:
        """Wait for the next answers, a batch at most; there are none at the end."""
        with self._lock:
            while not self._stopped and not self._has_answer():
                if self._ended and not self._slots:
                    return []
                self._answered.wait(1.0)  # on Windows, only a wait that ends sees Ctrl-C
            done: list[_Slot[_Item, _Prepared, _Answer]] = []
            while self._has_answer() and len(done) < self._batch:
                done.append(self._slots.popleft())
            self._cost -= sum(slot.cost for slot in done)
            self._wanted.notify_all()
            return [] if self._stopped else done

    def _work(self) -> None:
        try:
            while job := self._next():
                job()
        except BaseException as error:  # noqa: BLE001  it is raised where the answers are taken
            with self._lock:
                self._error, self._stopped = error, True
        with self._lock:
            self._wanted.notify_all()
            self._answered.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """Wait for something to do; there is nothing more at the end."""
        with self._lock:
            while not self._stopped:
                job = self._choose()
                if job:
                    return job
                if self._ended and not (self._listed or self._decoding or self._decoded):
                    break
                # The listing thread wakes others for a chunk, not for each image.
                self._wanted.wait(_PATIENCE if self._decoded or self._lister else None)
        return None

    def _choose(self) -> Callable[[], None] | None:
        # What is nearest to its answer first, so that little is on its way.
        if self._computing < self._together and self._is_batch_due():
            count = min(self._batch, len(self._decoded))
            self._computing += 1
            return functools.partial(self._compute, [self._decoded.popleft() for _ in range(count)])
        if self._listed:
            count = min(_CHUNK, len(self._listed))
            self._decoding += 1
            return functools.partial(self._decode, [self._listed.popleft() for _ in range(count)])
        if not self._ended and self._lister is None and self._has_room():
            self._lister = threading.current_thread()
            return self._list
        return None

    def _is_batch_due(self) -> bool:
        if len(self._decoded) >= self._batch:
            return True
        if not self._decoded:
            return False
        no_more = not (self._listed or self._decoding) and (self._ended or not self._has_room())
        return no_more or time.monotonic() - self._decoded[0].since > _PATIENCE

    def _has_room(self) -> bool:
        return len(self._slots) < self._ahead and self._cost < _WAITING

    def _list(self) -> None:
        """Ask for the next images, until there is enough to do for all."""
        enough = _CHUNK * len(self._threads)
        going_on = True
        while going_on:
            error: Exception | None = None
            try:
                item = next(self._items, None)
            except Exception as caught:  # noqa: BLE001  it is raised behind the last answer
                item, error = None, caught
            with self._lock:
                if item is None:
                    self._ended, self._error = True, self._error or error
                else:
                    self._add(item)
                going_on = (
                    not (self._ended or self._stopped)
                    and self._has_room()
                    and len(self._listed) < enough
                )
                if not going_on:
                    self._lister = None
                    self._wanted.notify_all()
                    self._answered.notify()
                elif len(self._listed) % _CHUNK == 0:
                    self._wanted.notify()

    def _add(self, item: _Item) -> None:
        cost = self._steps.cost(item)
        slot: _Slot[_Item, _Prepared, _Answer] = _Slot(item, cost)
        self._slots.append(slot)
        self._listed.append(slot)
        self._cost += cost

    def _decode(self, chunk: list[_Slot[_Item, _Prepared, _Answer]]) -> None:
        for slot in chunk:
            if self._stopped:
                return
            try:
                found = self._steps.prepare(slot.item)
            except ImageError as error:
                slot.answer = _without_frames(error)
                continue
            if isinstance(found, Done):
                slot.answer = found.answer
            else:
                slot.prepared, slot.since = found, time.monotonic()
        with self._lock:
            self._decoded.extend(slot for slot in chunk if slot.prepared is not None)
            self._decoding -= 1
            self._wake()

    def _compute(self, batch: list[_Slot[_Item, _Prepared, _Answer]]) -> None:
        images = [slot.prepared for slot in batch if slot.prepared is not None]
        for slot, answer in zip(batch, self._steps.compute(images), strict=True):
            slot.answer, slot.prepared = answer, None
        with self._lock:
            self._computing -= 1
            self._wake()

    def _has_answer(self) -> bool:
        return bool(self._slots) and self._slots[0].answer is not None

    def _wake(self) -> None:
        if self._has_answer():
            self._answered.notify()


def _without_frames(error: ImageError) -> ImageError:
    """Return an error without its traceback, which would keep the image in memory."""
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error
