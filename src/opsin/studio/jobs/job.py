"""A job as plain files."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

from pydantic import BaseModel

from opsin.core.errors import RunError
from opsin.core.storage import write_json

M = TypeVar("M", bound=BaseModel)

Kind = Literal[
    "train",
    "resume",
    "look",
    "plan",
    "preview",
    "compare",
    "predict",
    "embed",
    "export",
    "import",
    "report",
    "explain",
    "find",
]
State = Literal[
    "waiting", "held", "running", "pausing", "stopping", "paused", "done", "stopped", "failed"
]

#: Kinds that wait for their turn; the others are short and run beside them.
TRAININGS: Final[frozenset[str]] = frozenset({"train", "resume"})
#: States of a job that has a process.
ACTIVE: Final[frozenset[str]] = frozenset({"running", "pausing", "stopping"})
#: States of a waiting job.
PENDING: Final[frozenset[str]] = frozenset({"waiting", "held"})

# What a job's folder holds.
_JOB: Final = "job.json"
OUTPUT: Final = "out.json"
LOG: Final = "log.txt"
# Characters that a title may have on the disk.
_TITLE_MOST: Final = 500


@dataclass(frozen=True)
class Job:
    """One piece of work that a child process does, with all that must survive the studio."""

    id: str
    kind: Kind
    title: str
    argv: tuple[str, ...]
    created: float = field(default_factory=time.time)
    state: State = "waiting"
    cause: str | None = None
    run: str | None = None
    pid: int | None = None
    started: float | None = None
    ended: float | None = None
    asked: float | None = None
    signals: int = 0
    goes_on: bool = False

    @property
    def active(self) -> bool:
        """Whether its process is there."""
        return self.state in ACTIVE

    @property
    def pending(self) -> bool:
        """Whether its turn is to come."""
        return self.state in PENDING

    @property
    def over(self) -> bool:
        """Whether it is neither at work nor waiting."""
        return not self.active and not self.pending

    @property
    def training(self) -> bool:
        """Whether it waits for its turn, as trainings do."""
        return self.kind in TRAININGS


def command(*words: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the command line of a verb of Opsin's that answers with one JSON object."""
    return (sys.executable, "-m", "opsin", *(os.fspath(word) for word in words), "--json")


def new_job(kind: Kind, title: str, argv: Sequence[str], *, run: str | None = None) -> Job:
    """Return a job with a number of its own that waits for its turn."""
    return Job(secrets.token_hex(6), kind, title[:_TITLE_MOST], tuple(argv), run=run)


def write_job(folder: Path, job: Job) -> None:
    """Keep a job in its folder, whole or not at all."""
    write_json(folder / _JOB, asdict(job))


def read_job(folder: Path) -> Job:
    """Read what `write_job` kept."""
    try:
        content = json.loads((folder / _JOB).read_text(encoding="utf-8"))
        known = {each.name for each in fields(Job)}
        given = {key: value for key, value in content.items() if key in known}
        job = Job(**given | {"id": folder.name, "argv": tuple(given["argv"])})
        if job.kind not in get_args(Kind) or job.state not in get_args(State):
            raise ValueError(job.kind)
        for texts in (job.argv, (job.title,), (job.run or "", job.cause or "")):
            if not all(isinstance(text, str) for text in texts):
                raise TypeError(texts)
        for number in (job.created, job.started or 0, job.ended or 0, job.pid or 0, job.signals):
            if not isinstance(number, int | float):
                raise TypeError(number)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(
            "a job of the studio's queue", f"its file {_JOB} is damaged", "Remove it."
        ) from error
    return job


def read_output(folder: Path, kind: type[M]) -> M | None:
    """Return the one JSON object that the job's process answered with, if it is of this kind."""
    # Names of files that are no Unicode are escapes that only Python's own reader takes.
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
        return kind.model_validate(json.loads(content))
    return None


def read_log(folder: Path, lines: int, *, most: int = 200_000) -> list[str]:
    """Return the last lines of the job's log, oldest first."""
    with contextlib.suppress(OSError), (folder / LOG).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - most))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    return []
