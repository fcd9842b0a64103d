"""A job: plain files, and a child process that outlives the studio."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter

from opsin.core.artifacts.run_directory import RUN_NAME
from opsin.core.artifacts.run_report import TrainingFacts
from opsin.core.child_process import child_environment
from opsin.core.errors import RunError
from opsin.core.platform import (
    CHILDREN_INHERIT,
    end_group,
    inheritable_lock,
    interrupt,
    is_locked,
    process_exists,
)
from opsin.core.storage import write_json
from opsin.web.refusals import Error

M = TypeVar("M", bound=BaseModel)

Kind = Literal[
    "train", "resume", "look", "plan", "preview", "compare", "predict", "embed", "export", "import",
    "report", "explain", "find",
]  # fmt: skip
State = Literal["waiting", "running", "pausing", "stopping", "paused", "done", "stopped", "failed"]

# Files of a job's folder; the lock shows that its process is running.
_JOB, _OUTPUT, LOG, LOCK = "job.json", "out.json", "log.txt", "alive.lock"
# Most characters of a stored title, and of a log line in a cause; most bytes of a log to read.
_TITLE_MOST, _LINE_MOST, _LOG_MOST = 500, 300, 200_000
# Exit status after Ctrl-C.
_INTERRUPTED: Final = 130
_FROM_OUTSIDE: Final = "It was stopped from outside the studio."
_BROKEN_OFF: Final = "It was stopped before the classifier was tested. You can continue it."
_KILLED: Final = "It was ended at once. What it did since its last saved state is lost."
_DIED: Final = (
    "It was ended from outside, perhaps because memory ran out. Close other programs, then try "
    "again."
)


class JobAnswer(BaseModel):
    """The common part of all jobs' answers: any error, and a training's result."""

    error: Error | None = None
    run: str | None = None
    training: TrainingFacts | None = None


@dataclass(frozen=True)
class Job:
    """A child process's work, with all that must survive the studio."""

    id: str  # twelve hexadecimal digits, the name of its folder
    kind: Kind
    title: str
    argv: tuple[str, ...]  # built by us, no shell
    created: float = field(default_factory=time.time)  # seconds since 1970, as all times here
    state: State = "waiting"
    cause: str | None = None  # of the state, in one line
    run: str | None = None  # name of its run directory
    pid: int | None = None
    started: float | None = None
    ended: float | None = None
    asked: float | None = None  # when it was asked to stop or pause
    signals: int = 0  # number of requests to stop
    goes_on: bool = False  # whether it resumes from the run's last checkpoint
    project: str = ""  # id of its project; jobs of earlier versions have none
    by: str = ""  # id of the person who asked for it; the owner has none
    expected: dict[str, float] = field(default_factory=dict)  # seconds of each phase, at its start

    @property
    def active(self) -> bool:
        """Whether it has a process."""
        return self.state in ("running", "pausing", "stopping")

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
        return self.kind in ("train", "resume")

    def at_its_end(self, folder: Path, status: int | None) -> Job:
        """The ended job, from the exit status, if known, and its files."""
        answer = read_output(folder, JobAnswer)
        training = answer.training if answer and self.training else None
        wishes: dict[str, State] = {"stopping": "stopped", "pausing": "paused"}
        wished = wishes.get(self.state)
        stopped: tuple[State, str | None] = (wished, None) if wished else ("stopped", _FROM_OUTSIDE)
        state: State = "done"
        cause: str | None = None
        if answer is None:
            state, cause = (wished, _KILLED) if wished else ("failed", _death(folder, status))
        elif (error := answer.error) is not None:
            by_ctrl_c = status is None and error["message"] == "Interrupted"
            if status != _INTERRUPTED and not by_ctrl_c:
                state, cause = "failed", f"{error['message']}. {error['advice']}".strip()
            elif wished == "stopped" and self.training:
                state, cause = wished, _BROKEN_OFF
            else:
                state, cause = stopped
        elif training and training.diverged:
            state, cause = "failed", training.diverged
        elif training and (training.stopped or status == _INTERRUPTED):
            state, cause = stopped
        run = Path(answer.run).name if self.training and answer and answer.run else self.run
        return replace(self, state=state, cause=cause, run=run, ended=time.time())


def _death(folder: Path, status: int | None) -> str:
    """The cause of death of a process without an answer."""
    if not status or status < 0:
        return _DIED
    lines = [line.strip() for line in last_lines(folder / LOG, 20) if line.strip()]
    return f"It ended before its work was done. {lines[-1][:_LINE_MOST] if lines else ''}".strip()


def command(*words: str | os.PathLike[str]) -> tuple[str, ...]:
    """The command line of a verb with ``--json``."""
    return (sys.executable, "-m", "opsin", *(os.fspath(word) for word in words), "--json")


def new_job(
    kind: Kind, title: str, argv: Sequence[str], *, run: str | None = None, project: str = "",
    expected: Mapping[str, float] | None = None,
) -> Job:  # fmt: skip
    """A new job, waiting to start."""
    return Job(
        secrets.token_hex(6), kind, title[:_TITLE_MOST], tuple(argv), run=run, project=project,
        expected=dict(expected or {}),
    )  # fmt: skip


def write_job(folder: Path, job: Job) -> None:
    """Store a job in its folder atomically."""
    write_json(folder / _JOB, asdict(job))


def read_job(folder: Path) -> Job | None:
    """Read what `write_job` wrote; ``None`` if it is damaged or missing."""
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        content = json.loads((folder / _JOB).read_text(encoding="utf-8"))
        return _STORED.validate_python(content | {"id": folder.name})
    return None


def read_output(folder: Path, kind: type[M]) -> M | None:
    """The JSON answer of the job's process, if it is of this kind."""
    # Only Python's own reader takes the escapes of file names that are not valid Unicode.
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = (folder / _OUTPUT).read_text(encoding="utf-8", errors="replace")
        return kind.model_validate(json.loads(content))
    return None


def last_lines(path: Path, lines: int) -> list[str]:
    """The last lines of a log, oldest first."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_MOST))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    return []


_STORED: Final = TypeAdapter(Job)


class JobProcesses:
    """The processes of jobs; each locks its job's folder while it lives."""

    def __init__(self) -> None:
        self._own: dict[Path, subprocess.Popen[bytes]] = {}

    def start(self, folder: Path, argv: Sequence[str], *, cwd: Path, run: str = "") -> int:
        """Start a process in a new session, which outlives this one; return its id."""
        if not CHILDREN_INHERIT:
            raise RunError("The studio cannot train on Windows", "Train in a terminal.")
        if not argv:
            raise RunError("The work is not known any more", "Remove it, then ask again.")
        environment = child_environment() | ({RUN_NAME: run} if run else {})
        try:
            # After this block only the child holds the lock.
            with (
                inheritable_lock(folder / LOCK) as lock,
                (folder / _OUTPUT).open("wb") as out,
                (folder / LOG).open("ab") as log,
            ):
                child = subprocess.Popen(  # noqa: S603  a list that we built
                    argv, stdin=subprocess.DEVNULL, stdout=out, stderr=log, cwd=cwd,
                    start_new_session=True, pass_fds=(lock,), env=environment,
                )  # fmt: skip
        except BlockingIOError:
            raise RunError("It is still running", "Wait until it ends.") from None
        self._own[folder] = child
        return child.pid

    def alive(self, folder: Path, pid: int | None) -> bool:
        """Whether the job's process is alive."""
        if not is_locked(folder / LOCK):
            return False
        child = self._own.get(folder)
        gone = child.poll() is not None if child else pid is not None and not process_exists(pid)
        if gone and pid is not None:
            end_group(pid)
        return not gone

    def status(self, folder: Path) -> int | None:
        """The exit status of an ended process, if this process started it."""
        child = self._own.pop(folder, None)
        if child is None:
            return None
        try:
            # The lock is released shortly before the status is available.
            return child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._own[folder] = child
            return None

    def interrupt(self, folder: Path, pid: int | None, *, kill: bool = False) -> None:
        """Ask the process to stop, as Ctrl-C does, or kill it and its children."""
        if pid is not None and self.alive(folder, pid):
            with contextlib.suppress(ProcessLookupError):
                (end_group if kill else interrupt)(pid)
