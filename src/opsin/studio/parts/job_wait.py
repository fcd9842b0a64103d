"""Waits for a job, and says meanwhile how far it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opsin.studio.jobs.job import Job
    from opsin.studio.parts.status_line import StatusLine
    from opsin.studio.state import Studio

# Seconds between two looks at the job.
_EVERY: Final = 0.5


async def job_over(studio: Studio, job: Job, status: StatusLine) -> Job | None:
    """Return a job once it is over; ``None`` where the page was left meanwhile.

    Args:
        studio: Its queue does the work.
        job: The job.
        status: Says how far it is.
    """
    while not (job := studio.jobs.get(job.id)).over:
        lines = await asyncio.to_thread(studio.jobs.log_tail, job.id, 1)
        status.say(lines[-1].strip() if lines and job.active else "Waiting to start")
        await asyncio.sleep(_EVERY)
        if status.element.is_deleted:
            return None
    return job
