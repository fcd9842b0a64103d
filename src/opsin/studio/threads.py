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
        self._tasks: OrderedDict[K, asyncio.Future[V]] = OrderedDict()  # those that failed go

    def kept(self, key: K) -> V | None:
        """Return a cached value, or ``None``."""
        task = self._tasks.get(key)
        return task.result() if task and _is_done(task) else None

    def forget(self, key: K) -> None:
        """Drop a value, also one that is being computed: those who wait now still receive it."""
        self._tasks.pop(key, None)

    async def get(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        """Return the value of a key, computed unless it is cached or pending."""
        if key not in self._tasks:
            self._tasks[key] = asyncio.ensure_future(compute())
            self._tasks[key].add_done_callback(functools.partial(self._done, key))
        self._tasks.move_to_end(key)
        return await asyncio.shield(self._tasks[key])

    async def cancel(self, key: K | None = None) -> None:
        """Give up computing a value, or all of them; those who wait for it are cancelled."""
        asked = self._tasks if key is None else {key} & self._tasks.keys()
        pending = {one: self._tasks[one] for one in asked if not self._tasks[one].done()}
        for one, task in pending.items():
            self.forget(one)
            task.cancel()
        await asyncio.gather(*pending.values(), return_exceptions=True)

    def _done(self, key: K, task: asyncio.Future[V]) -> None:
        if not _is_done(task) and self._tasks.get(key) is task:
            self.forget(key)
        sizes = {k: self._size(t.result()) for k, t in self._tasks.items() if _is_done(t)}
        while sum(sizes.values()) > self._most:
            sizes.pop(oldest := next(iter(sizes)))
            self.forget(oldest)


def _is_done(task: asyncio.Future[V]) -> bool:
    return task.done() and not task.cancelled() and not task.exception()
