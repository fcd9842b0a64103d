"""Clients that go away before their answer."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive

#: Seconds that a request waits before its client is looked for.
LOOK_AFTER: Final = 0.25


class CancelOnDisconnect:
    """Ends a block that waits for something once the client has gone: ``ClientDisconnect``.

    A client that is gone would keep its place in the queue until the deadline, and the server would
    compute in vain. Looking costs a task, though, so only requests that wait for a while do it: the
    others pay for a timer alone.

    Args:
        receive: The request's; all of its body has been read.

    Example:
        ``async with CancelOnDisconnect(receive): answers = await engine.predict(…)``
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._looking: asyncio.Task[None] | None = None
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER, self._begin)

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        # As `asyncio.timeout` does: the task may have been cancelled from elsewhere as well.
        if self._gone and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise ClientDisconnect from None

    def _begin(self) -> None:
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the end of a body may be sent once more
        self._gone = True
        self._task.cancel()
