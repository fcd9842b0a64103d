"""The studio's job queue, which survives restarts."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from opsin.core.artifacts.run_directory import RunDirectory, free_name
from opsin.core.errors import OpsinError, RunError, StorageError
from opsin.core.storage import storage_errors, write_json
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import (
    Job,
    JobProcesses,
    Kind,
    M,
    command,
    new_job,
    read_job,
    read_log,
    read_output,
    write_job,
)

#: Short jobs that run beside the trainings.
BESIDE: Final = 2
# Seconds before a pause breaks off a training without a new checkpoint.
_PATIENCE: Final = 10.0
# Seconds that a short job is kept after its end.
_KEPT: Final = 86_400.0
_LOG: Final = logging.getLogger("opsin.studio")


class Queue:
    """The studio's jobs: each a folder of plain files and a process."""

    def __init__(self, home: Path, at_once: int = 1, runs: Path | None = None) -> None:
        self.home = home
        self.at_once = at_once
        self.runs = (home / "runs" if runs is None else runs).absolute()
        self.paused = False  # whether no more trainings start
        self._folder = home.absolute() / "jobs"
        self._file = home.absolute() / "queue.json"
        self._guard = threading.RLock()
        self._processes = JobProcesses()
        self._jobs: dict[str, Job] = {}
        # Ids of changed jobs; an empty one for the queue itself.
        self._touched: set[str] = set()
        self._load()

    def jobs(self) -> list[Job]:
        """All jobs: running, then waiting, in order, then the last ended."""
        return sorted(self._jobs.values(), key=lambda job: job.rank)

    def get(self, id: str) -> Job:  # noqa: A002  the word that everybody uses for it
        """A job by its id, or `NotThere`."""
        job = self._jobs.get(id)
        if job is None:
            raise NotThere("There is no such job in the queue", "See the queue for all jobs.")
        return job

    def of_run(self, run: str) -> Job | None:
        """The newest job of a run, by the run directory's name."""
        jobs = [job for job in self.jobs() if job.training and job.run == run]
        return max(jobs, key=lambda job: (job.active, job.started or job.created), default=None)

    def output(self, id: str, kind: type[M]) -> M | None:  # noqa: A002
        """A job's JSON answer, if it is of this kind."""
        return read_output(self.folder(self.get(id)), kind)

    def log_tail(self, id: str, lines: int = 100) -> list[str]:  # noqa: A002
        """The last lines of a job's log, oldest first."""
        return read_log(self.folder(self.get(id)), lines)

    def folder(self, job: Job) -> Path:
        """The folder of a job's files."""
        return self._folder / job.id

    # What people ask for.

    def add(self, kind: Kind, title: str, argv: Sequence[str], *, run: str | None = None) -> Job:
        """Append a job to the queue; a later `tick` starts it."""
        with self._guard:
            job = new_job(kind, title, argv, run=run)
            with storage_errors(self.folder(job)):
                self.folder(job).mkdir(parents=True, exist_ok=True)
            self._put(job)
        return job

    def pause_all(self, paused: bool) -> None:
        """Pause or continue starting trainings; running ones are not affected."""
        with self._guard:
            write_json(self._file, {"paused": paused})
            self.paused = paused
            self._touched.add("")

    def stop(self, id: str) -> None:  # noqa: A002
        """Ask a job to stop gracefully; repeated calls have no effect."""
        with self._guard:
            job = self.get(id)
            if job.pending:
                self._put(replace(job, state="stopped", cause=None, ended=time.time()))
            elif job.state == "running":
                self._ask(replace(job, state="stopping", asked=time.time()))
            elif job.state == "pausing" and job.signals == 1:
                # A pause already asked it to end; now do not break it off.
                self._put_best_effort(replace(job, state="stopping"))

    def stop_at_once(self, id: str) -> None:  # noqa: A002
        """Break off a job without an evaluation; a second call kills its process."""
        with self._guard:
            job = self.get(id)
            if job.active:
                self._ask(replace(job, state="stopping", asked=time.time()))

    def pause(self, id: str) -> None:  # noqa: A002
        """Ask a training to checkpoint and end, for `resume`."""
        with self._guard:
            job = self.get(id)
            if job.state == "running":
                self._ask(replace(job, state="pausing", asked=time.time()))

    def resume(self, id: str) -> None:  # noqa: A002
        """Requeue an ended job in its old place."""
        with self._guard:
            job = self.get(id)
            if job.over:
                again = Job(job.id, job.kind, job.title, job.argv, job.created, run=job.run)
                self._put(replace(again, goes_on=True))

    def remove(self, id: str) -> None:  # noqa: A002
        """Remove a job, but not its run; a short running job is ended."""
        with self._guard:
            job = self._jobs.get(id)
            if job is None:
                return
            if job.active and job.training:
                raise RunError(f"{job.title} is at work", "Stop it first, then remove it.")
            self._processes.end(self.folder(job), job.pid)
            self._processes.status(self.folder(job))
            shutil.rmtree(self.folder(job), ignore_errors=True)
            self._jobs = {key: other for key, other in self._jobs.items() if key != job.id}
            self._touched.add(job.id)

    # What happens by itself.

    def tick(self) -> set[str]:
        """Update running jobs and start the next; return the ids of changed ones."""
        with self._guard:
            for job in self.jobs():
                if job.active:
                    self._touched.add(job.id)
                    self._look(job)
                elif job.over and not job.training and time.time() - (job.ended or 0) > _KEPT:
                    self.remove(job.id)
            self._start_next()
            touched, self._touched = self._touched, set()
        return touched

    def _look(self, job: Job) -> None:
        folder = self.folder(job)
        if not self._processes.alive(folder, job.pid):
            if job.training and job.run and not (self.runs / job.run).is_dir():
                job = replace(job, run=None)  # never begun
            self._put_best_effort(job.at_its_end(folder, self._processes.status(folder)))
        elif job.state == "pausing" and job.signals == 1 and self._may_break_off(job):
            self._ask(job)

    def _may_break_off(self, job: Job) -> bool:
        """Whether a paused training's checkpoint has been written."""
        asked = job.asked or 0.0
        checkpoints = RunDirectory(self.runs / job.run).checkpoints if job.run else None
        with contextlib.suppress(OSError):
            for file in checkpoints.glob("*.json") if checkpoints else ():
                if file.stat().st_mtime > asked:
                    return True
        return time.time() - asked > _PATIENCE

    def _start_next(self) -> None:
        active = [job for job in self.jobs() if job.active]
        free = {
            True: 0 if self.paused else self.at_once - sum(job.training for job in active),
            False: BESIDE - sum(not job.training for job in active),
        }
        for job in self.jobs():
            if job.pending and free[job.training] > 0:
                free[job.training] -= 1
                self._start(job)

    def _start(self, job: Job) -> None:
        """Start a job's process, and record it."""
        folder = self.folder(job)
        job = replace(job, state="running", started=time.time())
        new_run = ""
        try:
            argv = self._argv(job)
            if job.kind == "train" and argv == job.argv:
                # A new attempt writes a new run, whose name is fixed here.
                named = [word[7:] for word in argv if word.startswith("--name=")]
                taken = {other.run for other in self._jobs.values() if other.active and other.run}
                new_run = free_name(self.runs, named[0] if named else job.title, taken)
                job = replace(job, run=new_run)
            # Before the start, so that a crash in between causes no second process.
            self._put(job)
            pid = self._processes.start(folder, argv, cwd=self.home.absolute(), run=new_run)
        except (OSError, ValueError, OpsinError) as error:
            prefix = "" if isinstance(error, OpsinError) else "it cannot be started: "
            cause = f"{prefix}{error}"
            self._put_best_effort(replace(job, state="failed", cause=cause, ended=time.time()))
        else:
            self._put_best_effort(replace(job, pid=pid))

    def _argv(self, job: Job) -> Sequence[str]:
        """The job's command line, or that which resumes its run."""
        if not (job.goes_on and job.training and job.run):
            return job.argv
        run = RunDirectory(self.runs / job.run)
        if not run.path.is_dir():
            raise RunError(f"The run {job.run} is gone", "Restore it, or train again.")
        return command("resume", run.path) if any(run.checkpoints.glob("*.json")) else job.argv

    def _ask(self, job: Job) -> None:
        """Stop a job's process: gracefully, then at once, then by force."""
        job = replace(job, signals=job.signals + 1)
        self._put_best_effort(job)
        if job.signals > 2:
            self._processes.end(self.folder(job), job.pid)
        else:
            self._processes.interrupt(self.folder(job), job.pid)

    # What is kept.

    def _put(self, job: Job) -> None:
        """Store a new or changed job."""
        write_job(self.folder(job), job)
        self._jobs = {**self._jobs, job.id: job}
        self._touched.add(job.id)

    def _put_best_effort(self, job: Job) -> None:
        """Store a job, at least in memory if the disk is full."""
        try:
            self._put(job)
        except StorageError:
            self._jobs = {**self._jobs, job.id: job}
            self._touched.add(job.id)

    def _load(self) -> None:
        """Read all undamaged jobs."""
        for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if job := read_job(folder):
                self._jobs[job.id] = job
            elif (folder / "job.json").is_file():
                _LOG.warning("The file of the job %s is damaged", folder)
        with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError):
            self.paused = json.loads(self._file.read_text(encoding="utf-8")).get("paused") is True
