"""Checks the runs and jobs for changes, and tells all windows."""

from __future__ import annotations

import asyncio
import logging

from nicegui import Event

from opsin.studio.jobs.queue import Queue
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import WATCHER

_LOG = logging.getLogger("opsin.studio")


async def watch(runs: RunIndex, jobs: Queue, changed: Event[str], every: float = 1.0) -> None:
    """Check runs and jobs again and again, and emit what changed."""
    said = ""
    while True:
        try:
            await look(runs, jobs, changed)
        except Exception as error:  # noqa: BLE001  without its watcher, the studio would show old data
            if str(error) != said:
                _LOG.warning("the studio could not look at its files: %s", error)
            said = str(error)
        else:
            said = ""
        await asyncio.sleep(every)


async def look(runs: RunIndex, jobs: Queue, changed: Event[str]) -> None:
    """Check runs and jobs once, and emit what changed."""
    version = runs.version
    # The jobs first: one that ended has then written all that its run's row is read from.
    jobs_changed = await WATCHER.run(jobs.tick)
    runs_changed = await WATCHER.run(runs.scan)
    if jobs_changed:
        changed.emit("jobs")
    if runs.version != version:
        changed.emit("runs")
    for run in sorted(runs_changed):
        changed.emit(f"run:{run}")
