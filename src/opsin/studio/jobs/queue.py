"""The studio's job queue, which survives restarts, and jobs that a page waits for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from opsin.core import platform
from opsin.core.artifacts.run_directory import RUN_NAME, RunDirectory, free_run_name
from opsin.core.child_process import child_environment
from opsin.core.errors import OpsinError, RunError, StorageError
from opsin.core.storage import storage_errors
from opsin.studio.errors import NotThere, TooMany
from opsin.studio.jobs.job import (
    LOCK,
    LOG,
    OUTPUT,
    Job,
    Kind,
    M,
    command,
    last_lines,
    read_job,
    read_output,
    write_job,
)
from opsin.studio.people import record, require, visitor

#: Short jobs that run beside the trainings.
BESIDE: Final = 2
# Free bytes of the disk below which no job is added; most characters of a title.
_FREE_LEAST, _TITLE_MOST = 200_000_000, 500
# Seconds that a short job, and a folder of downloads without a job, are kept.
_KEPT: Final = 86_400.0
# Seconds between two looks of a waiting page.
_EVERY: Final = 0.5
# What may be asked for without changing anything.
_OF_VIEWERS: Final = frozenset(("look", "plan", "compare", "predict"))
_LOGGER: Final = logging.getLogger("opsin.studio")


class Queue:
    """The studio's jobs: each a folder of plain files and a process."""

    def __init__(
        self, home: Path, at_once: int = 1, runs: Path | None = None, most_waiting: int = 1000
    ) -> None:
        self.home, self.at_once, self.most_waiting = home, at_once, most_waiting
        self.runs = (home / "runs" if runs is None else runs).absolute()
        self._folder = home.absolute() / "jobs"
        self._guard = threading.RLock()
        self._started = dict[str, subprocess.Popen[bytes]]()  # here, by the ids of their jobs
        self._jobs: dict[str, Job] = {}
        for file in sorted(self._folder.glob("*/job.json")):
            if job := read_job(file.parent):
                self._jobs[job.id] = job
            else:
                _LOGGER.warning("The file of the job %s is damaged", file.parent)
        self._told = self._jobs  # as of the last tick

    def jobs(self) -> list[Job]:
        """All jobs: running, then waiting, in order, then the last ended."""
        return sorted(self._jobs.values(), key=lambda job: job.rank)

    def get(self, id: str) -> Job:  # noqa: A002  the word that everybody uses for it
        """A job by its id, or `NotThere`."""
        job = self._jobs.get(id)
        if job is None:
            raise NotThere("This job was removed", "See all jobs.")
        return job

    def of_project(self, project: str) -> list[Job]:
        """The trainings of a project: running, waiting, then the last ended."""
        return [job for job in self.jobs() if job.training and job.project == project]

    def output(self, id: str, kind: type[M]) -> M | None:  # noqa: A002
        """A job's JSON answer, if it is of this kind."""
        return read_output(self.folder(self.get(id)), kind)

    def folder(self, job: Job) -> Path:
        """The folder of a job's files."""
        return self._folder / job.id

    def add(
        self,
        kind: Kind,
        title: str,
        argv: Sequence[str],
        *,
        run: str | None = None,
        project: str = "",
        expected: Mapping[str, float] | None = None,
    ) -> Job:
        """Append a job to the queue; a later `tick` starts it."""
        require("viewer" if kind in _OF_VIEWERS else "owner")
        job = Job(
            kind=kind,
            title=title[:_TITLE_MOST],
            argv=tuple(argv),
            run=run,
            project=project,
            expected=dict(expected or {}),
            by=visitor.get().id,
        )
        with self._guard:
            self._check_room(job)
            self._put(job)
        if kind not in _OF_VIEWERS:
            record(f"asked for {job.title} ({kind})")
        return job

    def _check_room(self, job: Job) -> None:
        """Refuse a job without disk, or beyond those that may wait: of all, and of one person."""
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        folders = filter(Path.is_dir, (self.runs, self._folder))
        if min(shutil.disk_usage(folder).free for folder in folders) < _FREE_LEAST:
            raise StorageError("The disk is full", "Free some space, then try again.")
        waiting = [other for other in self._jobs.values() if other.pending]
        if job.training and sum(other.training for other in waiting) >= self.most_waiting:
            text = f"{self.most_waiting} trainings are waiting, the most that may"
            raise TooMany(text, "Wait until one has started, or remove one.")
        most = max(1, self.most_waiting // 2)
        if job.by and sum(other.by == job.by for other in waiting) >= most:
            text = f"You have {most} jobs waiting, the most that one person may have"
            raise TooMany(text, "Wait until one of them has started.")

    def _change(self, id: str, done: str) -> Job:  # noqa: A002
        """A job that the visitor may change: their own short ones, or all as an owner."""
        job = self.get(id)
        is_own = job.by == visitor.get().id and not job.training
        require("viewer" if is_own or job.kind == "compare" else "owner")
        if job.training:
            record(f"{done} {job.title}")
        return job

    def stop(self, id: str, *, at_once: bool = False) -> None:  # noqa: A002
        """Ask a job to stop gracefully; a repeated call has no effect.

        ``at_once`` breaks it off, a second time by killing its process.
        """
        with self._guard:
            job = self._change(id, "stopped")
            if job.pending:
                self._put(job, state="stopped", ended=time.time())
            elif job.state == "running" or (at_once and job.active):
                self._put(job, full=True, state="stopping", signals=job.signals + 1)
                self._interrupt(job, kill=job.signals > 1)

    def resume(self, id: str) -> None:  # noqa: A002
        """Requeue an ended job in its old place."""
        with self._guard:
            job = self._change(id, "resumed")
            if job.over:
                self._check_room(job)
                job = job.model_copy(update=dict.fromkeys(("cause", "pid", "started", "ended")))
                self._put(job, state="waiting", signals=0, goes_on=True, details="")

    def remove(self, id: str) -> None:  # noqa: A002
        """Remove a job, but not its run; a short running job is ended."""
        with self._guard:
            if id not in self._jobs:
                return
            job = self._change(id, "removed the job")
            if job.active and job.training:
                raise RunError(f"{job.title} is running", "Stop it first, then remove it.")
            self._interrupt(job, kill=True)
            self._status(job)
            shutil.rmtree(self.folder(job), ignore_errors=True)
            self._jobs = {key: other for key, other in self._jobs.items() if key != job.id}

    def tick(self) -> bool:
        """Update running jobs and start the next; return whether any runs or has changed."""
        with self._guard:
            for job in self.jobs():
                if job.active:
                    self._look(job)
                elif job.over and not job.training and time.time() - (job.ended or 0) > _KEPT:
                    self.remove(job.id)
            active = [job.training for job in self.jobs() if job.active]
            free = {True: self.at_once - active.count(True), False: BESIDE - active.count(False)}
            for job in self.jobs():
                if job.pending and free[job.training] > 0:
                    free[job.training] -= 1
                    self._start(job)
            changed = self._jobs is not self._told or any(job.active for job in self._jobs.values())
            self._told = self._jobs
        return changed

    def _look(self, job: Job) -> None:
        run = RunDirectory(self.runs / job.run) if job.training and job.run else None
        if run is not None and job.number:
            with contextlib.suppress(OpsinError):  # the disk is full: the next look tries again
                if run.recipe.is_file() and not run.read_notes().number:
                    run.write_notes(number=job.number)
        if not self._is_alive(job):
            if run is not None and not run.path.is_dir():
                job = job.model_copy(update={"run": None})  # never begun
            self._put(job.at_its_end(self.folder(job), self._status(job)), full=True)

    def _start(self, job: Job) -> None:
        new_run = ""
        job = job.model_copy(update={"state": "running", "started": time.time()})
        try:
            argv = self._argv(job)
            if job.training and argv == job.argv:
                # A new attempt writes a new run, whose name is fixed here.
                taken = {other.run for other in self._jobs.values() if other.active and other.run}
                new_run = free_run_name(self.runs, job.title, taken)
                job = job.model_copy(update={"run": new_run})
            # Before the start, so that a crash in between causes no second process.
            self._put(job)
            self._put(job, full=True, pid=self._process(job, argv, new_run))
        except (OSError, ValueError, IndexError, OpsinError) as error:
            prefix = "" if isinstance(error, OpsinError) else "It cannot be started: "
            self._put(job, full=True, state="failed", cause=f"{prefix}{error}", ended=time.time())

    def _process(self, job: Job, argv: Sequence[str], run: str) -> int:
        """Start a job's process in a new session, which outlives this one; return its id."""
        if not platform.CHILDREN_INHERIT:
            raise RunError("The studio cannot train on Windows", "Train in a terminal.")
        folder, environment = self.folder(job), child_environment()
        try:
            # After this block only the child holds the lock.
            with (
                platform.inheritable_lock(folder / LOCK) as lock,
                (folder / OUTPUT).open("wb") as out,
                (folder / LOG).open("ab") as log,
            ):
                process = self._started[job.id] = subprocess.Popen(  # noqa: S603  a list that we built
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    cwd=self.home.absolute(),
                    start_new_session=True,
                    pass_fds=(lock,),
                    env=environment | ({RUN_NAME: run} if run else {}),
                )
        except BlockingIOError:
            raise RunError("It is still running", "Wait until it ends.") from None
        platform.lower_priority(process.pid)  # pages come first
        return process.pid

    def _is_alive(self, job: Job) -> bool:
        """Whether a job's process is alive; what a dead one left running is ended."""
        if not platform.is_locked(self.folder(job) / LOCK):
            return False
        if child := self._started.get(job.id):
            lives = child.poll() is None
        else:
            lives = job.pid is None or platform.process_exists(job.pid)
        if not lives and job.pid is not None:
            platform.end_group(job.pid)
        return lives

    def _status(self, job: Job) -> int | None:
        """The exit status of an ended process, if this process started it."""
        child = self._started.pop(job.id, None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # The lock is released shortly before the status is available.
            return child.wait(timeout=5) if child else None
        return None

    def _interrupt(self, job: Job, *, kill: bool = False) -> None:
        """Ask a job's process to stop, as Ctrl-C does, or kill it and its children."""
        if job.pid is not None and self._is_alive(job):
            with contextlib.suppress(ProcessLookupError):
                (platform.end_group if kill else platform.interrupt)(job.pid)

    def _argv(self, job: Job) -> Sequence[str]:
        if not (job.goes_on and job.training and job.run):
            return job.argv
        run = RunDirectory(self.runs / job.run)
        if not run.path.is_dir():
            raise RunError(f"{job.title} was removed", "Restore it, or train again.")
        return command("resume", run.path) if any(run.checkpoints.glob("*.json")) else job.argv

    def _put(self, job: Job, *, full: bool = False, **changed: Any) -> None:
        """Store a new or changed job; ``full`` if in memory is enough, should the disk be full."""
        job = job.model_copy(update=changed)
        with contextlib.suppress(*((StorageError,) if full else ())):
            write_job(self.folder(job), job)
        self._jobs = {**self._jobs, job.id: job}


class JobAction:
    """A job for one page: added, awaited, and its answer read."""

    def __init__(self, jobs: Queue, job: Job) -> None:
        self._jobs, self.job = jobs, job

    @classmethod
    async def ask(cls, jobs: Queue, kind: Kind, title: str, argv: Sequence[str]) -> JobAction:
        """Add a job to the queue."""
        return cls(jobs, await asyncio.to_thread(jobs.add, kind, title, argv))

    async def over(
        self, tell: Callable[[str], object] = str, left: Callable[[], bool] = bool
    ) -> bool:
        """Wait for the job's end; ``False`` if the page was left meanwhile."""
        while not (job := self._jobs.get(self.job.id)).over:
            lines = await asyncio.to_thread(last_lines, self._jobs.folder(job) / LOG, 1)
            tell(lines[-1].strip() if lines and job.active else "Waiting to start")
            await asyncio.sleep(_EVERY)
            if left():
                return False
        self.job = job
        return True

    async def answer(self, kind: type[M]) -> tuple[M | None, str]:
        """The ended job's answer, or ``None`` and the cause."""
        output = await asyncio.to_thread(self._jobs.output, self.job.id, kind)
        if self.job.state == "done" and output is not None:
            return output, ""
        return None, self.job.cause or "The work was stopped."


def new_output_folder(queue: Queue) -> Path:
    """Return a new folder for a job's images and answers."""
    sweep_outputs(queue)
    folder = queue.home / "tried" / secrets.token_hex(6)
    folder.mkdir(parents=True)
    return folder


def sweep_outputs(queue: Queue) -> None:
    """Delete folders for answers that are a day old and of no job of the queue."""
    words = [word for job in queue.jobs() for word in job.argv]
    for old in (queue.home / "tried").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # another request was quicker
            aged = time.time() - old.stat().st_mtime > _KEPT
            if aged and not any(old.name in word for word in words):
                shutil.rmtree(old, ignore_errors=True)


def output_of(job: Job) -> Path | None:
    """Return a job's file for download, if it has one."""
    options = [name for name in ("--export", "--out") if name in job.argv]
    if job.kind not in ("predict", "export") or not options:
        return None
    return Path(job.argv[job.argv.index(options[0]) + 1])
