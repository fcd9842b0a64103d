"""A job that a page waits for, and the folder of its downloads."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from opsin.studio.jobs.job import Job, Kind, M
from opsin.studio.jobs.queue import Queue

# Seconds between two polls of the job.
_EVERY: Final = 0.5
# Seconds that a folder is kept without a job.
_STAYS: Final = 86_400.0
# The option that names a job's file, by the kind of job.
_OPTIONS: Final = {"predict": "--out", "embed": "--out", "export": "--export"}


class JobAction:
    """A job for one page: added, awaited, and its answer read."""

    def __init__(self, jobs: Queue, job: Job) -> None:
        self._jobs, self.job = jobs, job

    @classmethod
    async def ask(cls, jobs: Queue, kind: Kind, title: str, argv: Sequence[str]) -> JobAction:
        """Add a job to the queue."""
        return cls(jobs, await asyncio.to_thread(jobs.add, kind, title, argv))

    async def over(
        self, tell: Callable[[str], object] = str, left: Callable[[], bool] = bool
    ) -> bool:
        """Wait for the job's end; ``False`` if the page was left meanwhile."""
        while not (job := self._jobs.get(self.job.id)).over:
            lines = await asyncio.to_thread(self._jobs.log_tail, job.id, 1)
            shown = tell(lines[-1].strip() if lines and job.active else "Waiting to start")
            if inspect.isawaitable(shown):
                await shown
            await asyncio.sleep(_EVERY)
            if left():
                return False
        self.job = job
        return True

    async def answer(self, kind: type[M]) -> tuple[M | None, str]:
        """The ended job's answer, or ``None`` and the cause."""
        output = await asyncio.to_thread(self._jobs.output, self.job.id, kind)
        if self.job.state == "done" and output is not None:
            return output, ""
        return None, self.job.cause or "The work was stopped."


def new_output_folder(queue: Queue) -> Path:
    """Return a new folder for a job's images and answers."""
    parent = queue.home / "tried"
    parent.mkdir(parents=True, exist_ok=True)
    words = [word for job in queue.jobs() for word in job.argv]
    for old in parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another request was quicker
            aged = time.time() - old.stat().st_mtime > _STAYS
            if aged and not any(old.name in word for word in words):
                shutil.rmtree(old, ignore_errors=True)
    folder = parent / secrets.token_hex(6)
    folder.mkdir()
    return folder


def output_of(job: Job) -> Path | None:
    """Return a job's file for download, if it has one."""
    option = _OPTIONS.get(job.kind)
    if option is None or option not in job.argv:
        return None
    return Path(job.argv[job.argv.index(option) + 1])
