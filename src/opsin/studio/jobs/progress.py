"""How far a training is, and which run it writes."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.pace import epoch_of
from opsin.core.regular_file import open_regular
from opsin.core.stored_json import read_json
from opsin.studio.jobs.job import Job
from opsin.studio.words import clock, count, safe

# A run's clock and a job's may differ by what starting takes, and by a file system's rounding.
_SLACK: Final = 5.0
# No count is as large, and no time that is worth telling.
_ENDLESS: Final = 1e18
_LONGEST: Final = 1e7


@dataclass(frozen=True)
class Progress:
    """How far a training is, by its own word: what every page shows of it.

    Args:
        doing: What it does now: ``3/10`` while it trains epoch 3.
        done: Units done of that.
        total: Units that there are; 0 where they are not counted.
        unit: What they are: ``pictures``.
        share: How much of the whole training is done, 0 to 1; ``None`` before it has begun.
        left: Seconds until its end, evaluation not counted; ``None`` if unknown.
        speed: Units a second; ``None`` if unknown.
        pid: Its process.

    Example:
        >>> Progress("3/10", 500, 1000, "pictures", share=0.25, left=75.0).in_words()
        'Epoch 3 of 10 · 25% of all · about 1:15 left'
    """

    doing: str
    done: float
    total: float
    unit: str
    share: float | None = None
    left: float | None = None
    speed: float | None = None
    pid: int | None = None

    def in_words(self, *, full: bool = False) -> str:
        """Say what is done, how far the whole is and how long it still takes.

        Args:
            full: Also how far the step in hand is, and how fast.
        """
        epoch = epoch_of(self.doing)
        doing = f"Epoch {count(epoch[0])} of {count(epoch[1])}" if epoch else safe(self.doing, 60)
        words = [doing[:1].upper() + doing[1:]]
        if self.total > 0 and (full or not epoch):
            words.append(f"{count(self.done)} of {count(self.total)} {safe(self.unit, 30)}".strip())
        if full and self.speed:
            words.append(f"{count(self.speed)} {safe(self.unit, 30)}/s")
        if epoch and self.share is not None:
            words.append(f"{100 * self.share:.0f}% of all")
        if self.left is not None:
            words.append(f"about {clock(self.left)} left")
        return " · ".join(words)


def progress_of(run: RunDirectory) -> Progress | None:
    """Read how far a run is from its status; ``None`` where it does not say."""
    status = _read(run.status)
    if not isinstance(status.get("doing"), str):
        return None
    pid = status.get("pid")
    share, left, speed = (_number(status, name) for name in ("share", "left", "speed"))
    return Progress(
        status["doing"],
        _number(status, "done") or 0.0,
        _number(status, "total") or 0.0,
        str(status.get("unit", "")),
        share=None if share is None else min(1.0, share),
        left=None if left is None or left > _LONGEST else left,
        speed=speed,
        pid=pid if isinstance(pid, int) else None,
    )


def run_of(job: Job, runs: Path) -> str | None:
    """Return the name of the run that the job's process writes, once its directory is there.

    It is the one that says this process number and began after the job.
    """
    if job.run or not job.training or job.pid is None or job.started is None:
        return job.run
    with contextlib.suppress(OSError), os.scandir(runs) as entries:
        for entry in entries:
            status = Path(entry.path) / "status.json"
            with contextlib.suppress(OSError):
                if status.lstat().st_mtime < job.started - _SLACK:
                    continue
                said = _read(status)
                began = _number(said, "started") or 0.0
                if said.get("pid") == job.pid and began >= job.started - _SLACK:
                    return entry.name
    return None


def _read(file: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError), open_regular(file, follow_links=False) as status:
        content = read_json(status)
        if isinstance(content, dict):
            return content
    return {}


def _number(content: dict[str, Any], key: str) -> float | None:
    """Return a number that is not below zero, or ``None``: a status may be tampered with."""
    value = content.get(key)
    if not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _ENDLESS else None
