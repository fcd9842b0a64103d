"""The prediction engine: listing, decoding and computing in parallel."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from opsin.core.errors import ImageError
from opsin.data.lazy_images import THREADS

# Blocks of images on their way for each that is computed, and bytes of images in all of them.
_BATCHES: Final = 3
_WAITING: Final = 64 << 20
# Seconds that a listed image waits for its block to fill up: names on standard input may come
# slowly, and a user who watches wants to see something.
_PATIENCE: Final = 0.1
# Seconds that the end waits for the thread that asks for the next image, and may never get it.
_FAREWELL: Final = 0.5
_UNLIMITED: Final = contextlib.nullcontext()

_Item = TypeVar("_Item")
_Prepared = TypeVar("_Prepared")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class ImageSteps(Generic[_Item, _Prepared, _Answer]):
    """The steps for each image; several threads call each function."""

    #: Decodes an image; raises `ImageError` where it cannot be read.
    prepare: Callable[[_Item], _Prepared]
    #: Answers a batch, in its order.
    compute: Callable[[list[_Prepared]], Sequence[_Answer]]
    #: Bytes that an image takes while it is on its way.
    cost: Callable[[_Item], int]
    batch: int  # images computed at once, at most
    together: int = 1  # batches computed at the same time

    def answer(
        self,
        items: Iterable[_Item],
        computing: contextlib.AbstractContextManager[Any] = _UNLIMITED,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> list[_Answer | ImageError]:
        """Return the answers to a block of images, or the reasons why there are none."""
        answers: dict[int, _Answer | ImageError] = {}
        ready: dict[int, _Prepared] = {}

        def compute() -> None:
            if ready and not is_stopped():
                with computing:
                    computed = self.compute(list(ready.values()))
                answers.update(zip(ready, computed, strict=True))
            ready.clear()

        for row, item in enumerate(items):
            if is_stopped():
                break
            try:
                ready[row] = self.prepare(item)
            except ImageError as error:
                # Anew: its traceback would keep the image in memory.
                answers[row] = ImageError(error.message, error.advice)
            if len(ready) >= self.batch:
                compute()
        compute()
        return [answers[row] for row in sorted(answers)]


def answer_images(
    steps: ImageSteps[_Item, _Prepared, _Answer],
    images: Iterable[_Item],
    *,
    end_wait: Callable[[], None] = lambda: None,
    idle: Callable[[], None] = lambda: None,
) -> Generator[tuple[_Item, _Answer | ImageError]]:
    """Yield each image with its answer, or the reason why there is none, in their order.

    ``idle`` is called while no further image comes.
    """
    computing, stopped = threading.Semaphore(steps.together), threading.Event()

    def answer(items: list[_Item]) -> list[_Answer | ImageError]:
        return steps.answer(items, computing, stopped.is_set)

    most = max(_BATCHES * steps.together, THREADS + 1)
    listing = _Listing(images, steps.cost, (steps.batch, _WAITING // (most + 2)), stopped)
    pool = ThreadPoolExecutor(THREADS, "opsin-images")
    try:
        listing.start()  # here, because Ctrl-C may come before it has started
        yield from in_order(pool, answer, listing.blocks(), lambda: most, idle)
        if listing.error is not None:
            raise listing.error
    finally:
        stopped.set()
        end_wait()
        pool.shutdown(cancel_futures=True)
        listing.end()


def in_order(
    executor: Executor,
    answer: Callable[[list[_Item]], Sequence[_Answer | ImageError]],
    blocks: Iterable[list[_Item]],
    most: Callable[[], int],
    idle: Callable[[], None] = lambda: None,
) -> Generator[tuple[_Item, _Answer | ImageError]]:
    """Yield answers in the order of the images, with so many blocks on their way."""
    waiting: deque[tuple[list[_Item], Future[Sequence[_Answer | ImageError]]]] = deque()

    def first() -> Iterator[tuple[_Item, _Answer | ImageError]]:
        items, future = waiting.popleft()
        while not future.done():  # on Windows only a wait that ends sees Ctrl-C
            concurrent.futures.wait([future], 1.0)
        try:
            answers = future.result()
            yield from zip(items, answers, strict=True)
        except BrokenExecutor:
            if len(items) == 1:
                yield items[0], ImageError("reading it ended the process")
                return
            for item in reversed(items):
                waiting.appendleft(([item], executor.submit(answer, [item])))

    try:
        for items in blocks:
            if items:
                waiting.append((items, executor.submit(answer, items)))
            else:
                idle()
            while waiting and (waiting[0][1].done() or len(waiting) >= most()):
                yield from first()
        while waiting:
            yield from first()
    finally:
        for _, future in waiting:
            future.cancel()


class _Listing(threading.Thread, Generic[_Item]):
    """A thread that lists images, which may block, and yields them in blocks."""

    def __init__(
        self,
        images: Iterable[_Item],
        cost: Callable[[_Item], int],
        most: tuple[int, int],  # images of a block, and bytes
        stopped: threading.Event,
    ) -> None:
        super().__init__(name="opsin-listing", daemon=True)
        self._images, self._cost, self._most, self._stopped = iter(images), cost, most, stopped
        self._changed = threading.Condition()
        self._block: list[_Item] = []
        self._weight = 0
        self._ended = False
        #: Why it ended early.
        self.error: BaseException | None = None

    def _is_full(self) -> bool:
        images, weight = self._most
        return len(self._block) >= images or self._weight >= weight

    def run(self) -> None:
        try:
            for item in self._images:
                with self._changed:
                    self._block.append(item)
                    self._weight += self._cost(item)
                    while self._is_full() and not self._stopped.is_set():
                        self._changed.notify_all()
                        self._changed.wait(_PATIENCE)
                if self._stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  it is raised behind the last answer
            self.error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def blocks(self) -> Iterator[list[_Item]]:
        """Yield blocks: smaller ones if listing is slow, and empty ones between."""
        ended = False
        while not ended:
            with self._changed:
                self._changed.wait_for(lambda: self._is_full() or self._ended, _PATIENCE)
                block, self._block, self._weight = self._block, [], 0
                ended = self._ended
                self._changed.notify_all()
            yield block

    def end(self) -> None:
        """Close the source, unless it still blocks the thread."""
        if self.ident is not None:  # it was started
            self.join(_FAREWELL)
        close = getattr(self._images, "close", None)
        if close and not self.is_alive():
            close()
