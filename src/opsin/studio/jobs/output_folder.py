"""Where jobs write what people download."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from pathlib import Path
from typing import Final

from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import Queue

# Seconds that a folder stays without a job.
_STAYS: Final = 86_400.0
# The option that names a job's file, by the kind of job.
_OPTIONS: Final = {"predict": "--out", "embed": "--out", "export": "--export"}


def new_output_folder(queue: Queue) -> Path:
    """Return a new folder for a job's images and answers."""
    parent = queue.home / "tried"
    parent.mkdir(parents=True, exist_ok=True)
    words = [word for job in queue.jobs() for word in job.argv]
    for old in parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another visitor was quicker
            aged = time.time() - old.stat().st_mtime > _STAYS
            if aged and not any(old.name in word for word in words):
                shutil.rmtree(old, ignore_errors=True)
    folder = parent / secrets.token_hex(6)
    folder.mkdir()
    return folder


def output_of(job: Job) -> Path | None:
    """Return the file that a job writes for people to download; ``None`` for another job."""
    option = _OPTIONS.get(job.kind)
    if option is None or option not in job.argv:
        return None
    return Path(job.argv[job.argv.index(option) + 1])
