"""Threads of the studio: one kind of work waits for none of another."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
