"""A training's progress, and the lines that it appends."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from opsin.core.artifacts.records import RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.core.events import epoch_of
from opsin.core.format import clock, count
from opsin.studio.words import safe

M = TypeVar("M", bound=BaseModel)

# Most seconds of a remaining time to show.
_LONGEST: Final = 1e7


@dataclass(frozen=True)
class Progress:
    """A training's progress, as it reports it."""

    doing: str
    done: float
    total: float
    unit: str
    share: float | None = None
    left: float | None = None
    speed: float | None = None
    pid: int | None = None

    def in_words(self, *, full: bool = False) -> str:
        """Describe the current work, the progress and the remaining time."""
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
    """Read a run's progress from its status, if it is there."""
    try:
        status = RunStatus.read(run.status)
    except RunError:
        return None
    if status.doing is None:
        return None
    return Progress(
        status.doing,
        status.done,
        status.total,
        status.unit,
        share=None if status.share is None else min(1.0, status.share),
        left=None if status.left is None or status.left > _LONGEST else status.left,
        speed=status.speed,
        pid=status.pid,
    )


def read_lines(path: Path, kind: type[M]) -> list[M]:
    """The complete JSON lines of a growing file, oldest first."""
    lines: list[M] = []
    with contextlib.suppress(OSError):
        for line in path.read_bytes().split(b"\n")[:-1]:
            with contextlib.suppress(ValidationError):
                lines.append(kind.model_validate_json(line))
    return lines
