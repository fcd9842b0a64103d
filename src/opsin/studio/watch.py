"""One task looks at files, and tells everybody."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opsin.studio.state import Studio

_LOG = logging.getLogger("opsin.studio")


async def watch(studio: Studio, every: float = 1.0) -> None:
    """Look at the runs and the jobs again and again, and tell all windows what changed.

    What a look costs is spent in threads: the windows share one event loop. A look that fails is
    logged once and tried again, since nothing else would start the next job.

    Args:
        studio: What all windows share.
        every: Seconds between two looks.
    """
    said = ""
    while True:
        try:
            await look(studio)
        except Exception as error:  # noqa: BLE001  a studio whose watcher ended would show old news
            if str(error) != said:
                _LOG.warning("the studio could not look at its files: %s", error)
            said = str(error)
        else:
            said = ""
        await asyncio.sleep(every)


async def look(studio: Studio) -> None:
    """Look once at the runs and the jobs, and tell all windows what changed."""
    version = studio.runs.version
    # The jobs first: one that ended has then written all that its run's row is read from.
    jobs = await asyncio.to_thread(studio.jobs.tick)
    runs = await asyncio.to_thread(studio.runs.scan)
    if jobs:
        studio.changed.emit("jobs")
    if studio.runs.version != version:
        studio.changed.emit("runs")
    for run in sorted(runs):
        studio.changed.emit(f"run:{run}")
