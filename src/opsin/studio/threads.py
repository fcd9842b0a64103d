"""Work beside the event loop: in threads of its own kind, and once for all who wait for it."""

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
    """A pool of threads, used as `asyncio.to_thread` uses the event loop's own."""

    def __init__(self, name: str, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, name)

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Return what a function returns that is called in one of the threads."""
        call = functools.partial(contextvars.copy_context().run, work, *args, **named)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


#: Jobs and runs are looked at here, whatever else hangs.
WATCHER: Final = Threads("watcher", 1)
#: Images are read, drawn and classified here.
IMAGES: Final = Threads("images", 8)
#: What arrives is written here, and becomes sources.
UPLOADS: Final = Threads("uploads", 8)


class ComputedOnce(Generic[K, V]):
    """Keeps values by their keys; those used longest ago go. To be used in one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._coming: dict[K, asyncio.Task[V]] = {}

    def kept(self, key: K) -> V | None:
        """Return a value that is kept, or ``None``."""
        return self._kept.get(key)

    def forget(self, key: K) -> None:
        """Keep a value no longer."""
        self._kept.pop(key, None)

    async def get(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        """Return the value of a key, computed unless it is kept or on its way."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._coming:
            task = asyncio.create_task(self._compute(key, compute))
            # It may fail when nobody waits any more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._coming[key] = task
        return await asyncio.shield(self._coming[key])

    async def _compute(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        try:
            self._kept[key] = value = await compute()
        finally:
            del self._coming[key]
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return value
