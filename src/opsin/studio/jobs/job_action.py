"""A job that one page asks for and waits for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opsin.studio.jobs.job import Job, Kind, M
    from opsin.studio.jobs.queue import Queue

# Seconds between two looks at the job.
_EVERY: Final = 0.5


class JobAction:
    """A job that one page asks for: added, waited for, and its answer read."""

    def __init__(self, jobs: Queue, job: Job) -> None:
        self._jobs, self.job = jobs, job

    @classmethod
    async def ask(cls, jobs: Queue, kind: Kind, title: str, argv: Sequence[str]) -> JobAction:
        """Add a job to the queue."""
        return cls(jobs, await asyncio.to_thread(jobs.add, kind, title, argv))

    async def over(
        self, tell: Callable[[str], object] = str, left: Callable[[], bool] = bool
    ) -> bool:
        """Wait for the job's end; ``False`` where the page was left meanwhile."""
        while not (job := self._jobs.get(self.job.id)).over:
            lines = await asyncio.to_thread(self._jobs.log_tail, job.id, 1)
            told = tell(lines[-1].strip() if lines and job.active else "Waiting to start")
            if inspect.isawaitable(told):
                await told
            await asyncio.sleep(_EVERY)
            if left():
                return False
        self.job = job
        return True

    async def answer(self, kind: type[M]) -> tuple[M | None, str]:
        """What the job that is over answered; where it could not, ``None`` and why."""
        found = await asyncio.to_thread(self._jobs.output, self.job.id, kind)
        if self.job.state == "done" and found is not None:
            return found, ""
        return None, self.job.cause or "The work was stopped."
