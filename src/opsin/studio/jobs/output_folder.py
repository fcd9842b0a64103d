"""Where jobs write what people download."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path
from typing import Final

from opsin.studio.jobs.job import Job

# Seconds that a file stays.
_STAYS: Final = 86_400.0
# The option that names a job's file, by the kind of job.
_OPTIONS: Final = {"predict": "--out", "embed": "--out", "export": "--export"}


def new_output_folder(home: Path) -> Path:
    """Return a new folder for a job's images and answers; those of yesterday are removed."""
    parent = home / "tried"
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.iterdir():
        if time.time() - old.stat().st_mtime > _STAYS:
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
