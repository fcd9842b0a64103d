"""Work beside the event loop: thread pools, and shared computations."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Threads:
    """A thread pool with the interface of `asyncio.to_thread`."""

    def __init__(self, name: str, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, name)

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a function in one of the threads, and return its result."""
        call = functools.partial(contextvars.copy_context().run, work, *args, **named)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


#: For checking jobs and runs, whatever else hangs.
WATCHER: Final = Threads("watcher", 1)
#: For reading and drawing images.
IMAGES: Final = Threads("images", 8)
#: For writing uploads and turning them into sources.
UPLOADS: Final = Threads("uploads", 8)


class ComputedOnce(Generic[K, V]):
    """An LRU cache of async results, for one event loop; of ``most`` results, or of their size."""

    def __init__(self, most: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._most, self._size = most, size
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._coming: dict[K, asyncio.Task[V]] = {}

    def kept(self, key: K) -> V | None:
        """Return a cached value, or ``None``."""
        return self._kept.get(key)

    def forget(self, key: K) -> None:
        """Drop a value, also one that is being computed: those who wait now still receive it."""
        self._kept.pop(key, None)
        self._coming.pop(key, None)

    async def get(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        """Return the value of a key, computed unless it is cached or pending."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._coming:
            task = asyncio.create_task(self._compute(key, compute))
            # It may fail when nobody waits any more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._coming[key] = task
        return await asyncio.shield(self._coming[key])

    async def cancel(self, key: K | None = None) -> None:
        """Give up computing a value, or all of them; those who wait for it are cancelled."""
        keys = [*self._coming] if key is None else [key]
        tasks = [self._coming.pop(one) for one in keys if one in self._coming]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _compute(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        task, newest = asyncio.current_task(), False
        try:
            value = await compute()
        finally:
            if newest := self._coming.get(key) is task:
                del self._coming[key]
        if newest:
            self._kept[key] = value
        while sum(map(self._size, self._kept.values())) > self._most:
            self._kept.popitem(last=False)
        return value
