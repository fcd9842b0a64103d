"""A job: plain files, and a child process that outlives the studio."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, Field

from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.storage import write_json
from opsin.studio.errors import DiskFull
from opsin.web.refusals import Error

M = TypeVar("M", bound=BaseModel)

Kind = Literal["train", "look", "plan", "compare", "predict", "export", "import"]
State = Literal["waiting", "running", "stopping", "done", "stopped", "failed"]

# Files of a job's folder; the lock shows that its process is running.
_JOB, OUTPUT, LOG, LOCK = "job.json", "out.json", "log.txt", "alive.lock"
# Most characters of a log line in a cause; most bytes of a log to read.
_LINE_MOST, _LOG_MOST = 300, 200_000
# Free bytes of a disk that is full.
_FULL: Final = 1 << 20
# Exit status after Ctrl-C.
_INTERRUPTED: Final = 130
_FROM_OUTSIDE: Final = "It was stopped from outside the studio."
_BROKEN_OFF: Final = "It was stopped before the classifier was tested."
_KILLED: Final = "It was ended at once. What it did since its last saved state is lost."
_FAULT: Final = "Opsin made a mistake. Try again. If it happens again, report the details."
_DIED: Final = (
    "It was ended from outside, perhaps because memory or disk space ran out. Close other "
    "programs, or free some space, then try again."
)


class JobAnswer(BaseModel):
    """The common part of all jobs' answers: any error, and a training's result."""

    error: Error | None = None
    run: str | None = None
    training: TrainingFacts | None = None


class Job(BaseModel, frozen=True):
    """A child process's work, with all that must survive the studio."""

    id: str = Field(default_factory=lambda: secrets.token_hex(6))  # the name of its folder
    kind: Kind
    title: str
    argv: tuple[str, ...] = ()  # built by us, no shell; none if it was started elsewhere
    created: float = Field(default_factory=time.time)  # seconds since 1970, as all times here
    state: State = "waiting"
    cause: str | None = None  # of the state, in one line
    details: str = ""  # the last line of its log, if it ended by a fault of ours
    run: str | None = None  # name of its run directory
    pid: int | None = None
    started: float | None = None
    ended: float | None = None
    signals: int = 0  # number of requests to stop
    goes_on: bool = False  # whether it resumes from the run's last checkpoint
    project: str = ""  # id of its project
    by: str = ""  # id of the person who asked for it; the owner has none
    expected: dict[str, float] = {}  # seconds of each phase, at its start

    @property
    def active(self) -> bool:
        """Whether it has a process."""
        return self.state in ("running", "stopping")

    @property
    def pending(self) -> bool:
        """Whether it is waiting to start."""
        return self.state == "waiting"

    @property
    def over(self) -> bool:
        """Whether it is neither running nor waiting."""
        return not self.active and not self.pending

    @property
    def rank(self) -> tuple[int, float]:
        """Its sort key: running, then waiting, then the last ended."""
        if self.active:
            return 0, self.started or 0.0
        return (1, self.created) if self.pending else (2, -(self.ended or self.created))

    @property
    def number(self) -> int:
        """The number at the end of its title, as of *Waste 3*; 0 without one."""
        found = re.search(r" ([0-9]{1,6})$", self.title)
        return int(found[1]) if found else 0

    @property
    def training(self) -> bool:
        """Whether it is queued; other jobs are short and run beside trainings."""
        return self.kind == "train"

    def at_its_end(self, folder: Path, status: int | None) -> Job:
        """The ended job, from the exit status, if known, and its files."""
        answer = read_output(folder, JobAnswer)
        training = answer.training if answer and self.training else None
        asked = self.state == "stopping"
        state: State = "stopped"
        cause, details = None if asked else _FROM_OUTSIDE, ""
        if answer is None and asked:
            cause = _KILLED
        elif answer is None:
            state, cause = "failed", _DIED
            if shutil.disk_usage(folder.parent).free < _FULL:  # it could not say so itself
                cause = str(DiskFull())
            elif status is not None and status > 0:
                said = [line.strip() for line in last_lines(folder / LOG, 20) if line.strip()]
                cause, details = _FAULT, re.sub(r"/\S*/", "", "".join(said[-1:]))[:_LINE_MOST]
        elif (error := answer.error) is not None:
            by_ctrl_c = status is None and error["message"] == "Interrupted"
            if status != _INTERRUPTED and not by_ctrl_c:
                state, cause = "failed", f"{error['message']}. {error['advice']}".strip()
            elif asked and self.training:
                cause = _BROKEN_OFF
        elif training and training.diverged:
            state, cause = "failed", training.diverged
        elif not training or not (training.stopped or status == _INTERRUPTED):
            state, cause = "done", None
        run = Path(answer.run).name if self.training and answer and answer.run else self.run
        end = {"state": state, "cause": cause, "details": details, "run": run}
        return self.model_copy(update=end | {"ended": time.time()})


def command(*words: str | os.PathLike[str]) -> tuple[str, ...]:
    """The command line of a verb with ``--json``."""
    return (sys.executable, "-m", "opsin", *(os.fspath(word) for word in words), "--json")


def write_job(folder: Path, job: Job) -> None:
    """Store a job in its folder atomically."""
    write_json(folder / _JOB, job.model_dump())


def read_job(folder: Path) -> Job | None:
    """Read what `write_job` wrote; ``None`` if it is damaged or missing."""
    # Only Python's own reader takes the escapes of file names that are not valid Unicode.
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        content = json.loads((folder / _JOB).read_text(encoding="utf-8"))
        return Job.model_validate(content | {"id": folder.name})
    return None


def read_output(folder: Path, kind: type[M]) -> M | None:
    """The JSON answer of the job's process, if it is of this kind."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
        return kind.model_validate(json.loads(content))
    return None


def last_lines(path: Path, lines: int) -> list[str]:
    """The last lines of a log, oldest first."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_MOST))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    return []
