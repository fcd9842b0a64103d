"""How far a training is, and which run it writes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opsin.run import RunDirectory
from opsin.studio.jobs.job import Job

# Bytes at the end of a history in which its last epochs stand.
_TAIL: Final = 20_000
# Epochs whose mean length says how long the next ones take.
_RECENT: Final = 3
# Seconds of watching after which a pace means something.
_ENOUGH: Final = 2.0
# A run's clock and a job's may differ by what starting takes, and by a file system's rounding.
_SLACK: Final = 5.0
# No count and no time is as large.
_ENDLESS: Final = 1e18
_OF: Final = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Args:
        doing: What it does now: ``3/10`` while it trains epoch 3.
        done: Units done of that.
        total: Units that there are; 0 where nobody knows.
        unit: What they are: ``pictures``.
        epoch: Number of the epoch in hand, from 1, or ``None`` outside of training.
        epochs: Epochs that were asked for.
        left: Seconds until the training's end, evaluation not counted; ``None`` if unknown.

    Example:
        >>> Progress("3/10", 500, 1000, "pictures", epoch=3, epochs=10, left=75.0).share
        0.25
    """

    doing: str
    done: float
    total: float
    unit: str
    epoch: int | None = None
    epochs: int | None = None
    left: float | None = None

    @property
    def share(self) -> float | None:
        """How much of the whole is done, from 0 to 1: of all epochs while it trains."""
        inside = min(1.0, self.done / self.total) if self.total > 0 else None
        if self.epoch and self.epochs:
            return min(1.0, (self.epoch - 1 + (inside or 0.0)) / self.epochs)
        return inside


class Pace:
    """Follows one job's numbers to tell how long it will take."""

    def __init__(self) -> None:
        self._doing = ""
        self._since = (0.0, 0.0)

    def left(self, doing: str, done: float, total: float, now: float) -> float | None:
        """Return the seconds that what is done now still takes.

        Example:
            >>> pace = Pace()
            >>> pace.left("Read", 0, 100, now=0.0)
            >>> pace.left("Read", 25, 100, now=5.0)
            15.0
        """
        if doing != self._doing or done < self._since[1]:
            self._doing, self._since = doing, (now, done)
        took, came = now - self._since[0], done - self._since[1]
        if took < _ENOUGH or came <= 0:
            return None
        return max(0.0, total - done) * took / came


def progress_of(run: RunDirectory, pace: Pace) -> Progress | None:
    """Read how far a run is, from its status and the end of its history."""
    status = _read(run.status)
    if not isinstance(status.get("doing"), str):
        return None
    doing, done, total = status["doing"], _number(status, "done"), _number(status, "total")
    left = pace.left(doing, done, total, time.monotonic())
    found = _OF.fullmatch(doing.strip())
    trained, epochs, seconds = _epochs(run.history)
    epoch = None
    if found:
        epoch, epochs = int(found[1]), int(found[2])
    elif total <= 0 and trained < epochs:
        # Between two epochs: a checkpoint is written, or nothing is counted.
        epoch = trained + 1
    if epoch is not None:
        share = min(1.0, done / total) if total > 0 else 0.0
        if seconds is not None:
            left = max(0.0, epochs - epoch + 1 - share) * seconds
        elif left is not None and share < 1:
            left *= 1 + (epochs - epoch) / (1 - share)
    if status.get("left") is not None:  # the training's own estimate knows more
        left = max(0.0, _number(status, "left"))
    unit = str(status.get("unit", ""))
    return Progress(doing, done, total, unit, epoch=epoch, epochs=epochs or None, left=left)


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
                if status.stat().st_mtime < job.started - _SLACK:
                    continue
                said = _read(status)
                began = _number(said, "started")
                if said.get("pid") == job.pid and began >= job.started - _SLACK:
                    return entry.name
    return None


def _epochs(history: Path) -> tuple[int, int, float | None]:
    """Return how many epochs are over, how many there are, and how long one of the last took."""
    events: list[tuple[int, int, float]] = []
    lines: list[bytes] = []
    with contextlib.suppress(OSError), history.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().splitlines()
    for line in lines[-_RECENT - 1 :]:
        # The first line may be the end of one.
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            event = json.loads(line)
            events.append((int(event["epoch"]), int(event["epochs"]), float(event["seconds"])))
    if not events:
        return 0, 0, None
    over, asked, _ = events[-1]
    # A line of a model without layers stands for several rounds.
    before = 0 if len(lines) <= _RECENT else events.pop(0)[0]
    took = sum(seconds for *_, seconds in events)
    return over, asked, took / (over - before) if over > before else None


def _read(file: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _number(content: dict[str, Any], key: str) -> float:
    value = content.get(key, 0)
    # A status that was tampered with must not keep the queue from going on.
    plain = isinstance(value, int | float) and abs(value) < _ENDLESS
    return float(value) if plain else 0.0
