"""The engine of all work over images: fetching, decoding and computing in parallel, in order."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np

from opsin.core.errors import ImageError
from opsin.data.image_stream import ListedImage
from opsin.data.lazy_images import THREADS
from opsin.stores.bucket import CONNECTIONS, StoredObject

# Blocks of images on their way for each that is computed, and bytes of images in all of them.
_BATCHES: Final = 3
_WAITING: Final = 64 << 20
_UNLIMITED: Final = contextlib.nullcontext()
# Images and bytes of a store in flight at most, and bytes assumed for an unknown size.
_AHEAD, _FETCHED, _USUAL = 4 * CONNECTIONS, 32 << 20, 1 << 20

_Prepared = TypeVar("_Prepared")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class ImageSteps(Generic[_Prepared, _Answer]):
    """The steps for each image; several threads call each function."""

    #: Decodes an image; raises `ImageError` where it cannot be read.
    prepare: Callable[[ListedImage], _Prepared]
    #: Answers a batch, in its order.
    compute: Callable[[list[_Prepared]], Sequence[_Answer]]
    pixels: int  # bytes of a prepared image
    batch: int  # images computed at once, at most
    together: int = 1  # batches computed at the same time

    def in_blocks(
        self, images: Iterable[ListedImage], most: int, weight: int
    ) -> Iterator[list[ListedImage]]:
        """Yield images in blocks of at most so many, and of about so many bytes."""
        block, held = list[ListedImage](), 0
        for item in images:
            block.append(item)
            held += self.pixels
            if isinstance(item.image, np.ndarray):
                held += item.image.nbytes
            elif isinstance(item.image, bytes):
                held += len(item.image)
            if len(block) >= most or held >= weight:
                yield block
                block, held = [], 0
        if block:
            yield block

    def answer(
        self,
        items: Iterable[ListedImage],
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
                if item.problem:
                    raise item.problem
                ready[row] = self.prepare(item)
            except ImageError as error:
                # Anew: its traceback would keep the image in memory.
                answers[row] = ImageError(error.message, error.advice)
            if len(ready) >= self.batch:
                compute()
        compute()
        return [answers[row] for row in sorted(answers)]


def answer_images(
    steps: ImageSteps[_Prepared, _Answer], images: Iterable[ListedImage]
) -> Generator[tuple[ListedImage, _Answer | ImageError]]:
    """Yield each image with its answer, or the reason why there is none, in their order."""
    computing, stopped = threading.Semaphore(steps.together), threading.Event()
    errors: list[Exception] = []

    def answer(items: list[ListedImage]) -> list[_Answer | ImageError]:
        return steps.answer(items, computing, stopped.is_set)

    def until_error(images: Iterable[ListedImage]) -> Iterator[ListedImage]:
        try:
            yield from images
        except Exception as error:  # noqa: BLE001  it is raised behind the last answer
            errors.append(error)

    most = max(_BATCHES * steps.together, THREADS + 1)
    fetched = until_error(read_ahead(until_error(images)))
    blocks = steps.in_blocks(fetched, steps.batch, _WAITING // (most + 2))
    pool = ThreadPoolExecutor(THREADS, "opsin-images")
    try:
        yield from in_order(pool, answer, blocks, lambda: most)
        for error in errors:
            raise error
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def in_order(
    executor: Executor,
    answer: Callable[[list[ListedImage]], Sequence[_Answer | ImageError]],
    blocks: Iterable[list[ListedImage]],
    most: Callable[[], int],
) -> Generator[tuple[ListedImage, _Answer | ImageError]]:
    """Yield answers in the order of the images, with so many blocks on their way."""
    waiting: deque[tuple[list[ListedImage], Future[Sequence[_Answer | ImageError]]]] = deque()

    def first() -> Iterator[tuple[ListedImage, _Answer | ImageError]]:
        items, future = waiting.popleft()
        while not future.done():  # on Windows only a wait that ends sees Ctrl-C
            concurrent.futures.wait([future], 1.0)
        try:
            yield from zip(items, future.result(), strict=True)
        except BrokenExecutor:
            if len(items) == 1:
                yield items[0], ImageError("reading it ended the process")
                return
            for item in reversed(items):
                waiting.appendleft(([item], executor.submit(answer, [item])))

    try:
        for items in blocks:
            waiting.append((items, executor.submit(answer, items)))
            while waiting and (waiting[0][1].done() or len(waiting) >= most()):
                yield from first()
        while waiting:
            yield from first()
    finally:
        for _, future in waiting:
            future.cancel()


def read_ahead(images: Iterable[ListedImage]) -> Generator[ListedImage]:
    """Yield images in order; those in a store with their contents, or a problem."""
    waiting: deque[tuple[ListedImage, int, Future[ListedImage] | None]] = deque()
    held, pool = 0, None

    def first() -> ListedImage:
        image, _, future = waiting.popleft()
        return image if future is None else future.result()

    try:
        for image in images:
            future, cost = None, 0
            if isinstance(image.image, StoredObject) and image.problem is None:
                pool = pool or ThreadPoolExecutor(CONNECTIONS, "opsin-store")
                future = pool.submit(image.with_content)
                cost = image.image.size if image.image.size >= 0 else _USUAL
            waiting.append((image, cost, future))
            held += cost
            while waiting and (waiting[0][2] is None or len(waiting) > _AHEAD or held > _FETCHED):
                held -= waiting[0][1]
                yield first()
        while waiting:
            yield first()
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
