"""Prefetching of objects from a store."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from opsin.core.errors import ImageError
from opsin.data.image_stream import ListedImage
from opsin.data.images import content_of
from opsin.stores.bucket import CONNECTIONS
from opsin.stores.store_address import StoredObject

# Images and bytes in flight at most.
_AHEAD: Final = 4 * CONNECTIONS
_WAITING: Final = 32 << 20
# Bytes assumed for an unknown size.
_USUAL: Final = 1 << 20


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
                future = pool.submit(_with_content, image, image.image)
                cost = image.image.size if image.image.size >= 0 else _USUAL
            waiting.append((image, cost, future))
            held += cost
            while waiting and (waiting[0][2] is None or len(waiting) > _AHEAD or held > _WAITING):
                held -= waiting[0][1]
                yield first()
        while waiting:
            yield first()
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _with_content(image: ListedImage, stored: StoredObject) -> ListedImage:
    try:
        return replace(image, image=content_of(stored, image.name))
    except ImageError as error:
        return replace(image, problem=error)
