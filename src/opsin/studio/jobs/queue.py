"""One training at a time, in order, through anything."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, RunError, StorageError
from opsin.studio.jobs.job import Job, Kind, M, command, new_job, read_log, read_output
from opsin.studio.jobs.job_outcome import ended
from opsin.studio.jobs.job_process import Children
from opsin.studio.jobs.job_store import JobStore
from opsin.studio.jobs.progress import run_of

#: Short jobs that run beside the trainings.
BESIDE: Final = 2
# Seconds after which the second request of a pause is sent even without a new checkpoint.
_PATIENCE: Final = 10.0
# Seconds that a short job is kept after its end: its answer is of no use any more.
_KEPT: Final = 86_400.0


class Queue:
    """The studio's jobs: each a folder of plain files with a process of its own.

    All methods may be called from any thread. Those that ask for something where there is nothing
    to do any more (another window was quicker) change nothing.
    """

    def __init__(self, home: Path, at_once: int = 1, runs: Path | None = None) -> None:
        self.home = home
        self.at_once = at_once
        self.runs = (home / "runs" if runs is None else runs).absolute()
        self._guard = threading.RLock()
        self._shelf = JobStore(home)
        self._children = Children()

    # What there is.

    @property
    def paused(self) -> bool:
        """Whether no further training begins."""
        return self._shelf.paused

    def jobs(self) -> list[Job]:
        """Return all jobs: those at work, then those that wait, in order, then the last ended."""
        return self._shelf.jobs()

    def get(self, id: str) -> Job:  # noqa: A002  the word that everybody uses for it
        """Return a job."""
        return self._shelf.get(id)

    def of_run(self, run: str) -> Job | None:
        """Return the newest job that works, or worked, on a run, by the run directory's name."""
        found = [job for job in self.jobs() if job.training and job.run == run]
        return max(found, key=lambda job: (job.active, job.started or job.created), default=None)

    def output(self, id: str, kind: type[M]) -> M | None:  # noqa: A002
        """Return the one JSON object that a job answered with, if it is of this kind."""
        return read_output(self._shelf.folder(self.get(id)), kind)

    def log_tail(self, id: str, lines: int = 100) -> list[str]:  # noqa: A002
        """Return the last lines of a job's log, oldest first."""
        return read_log(self._shelf.folder(self.get(id)), lines)

    # What people ask for.

    def add(
        self,
        kind: Kind,
        title: str,
        argv: Sequence[str],
        *,
        run: str | None = None,
        first: bool = False,
    ) -> Job:
        """Put a job at the queue's end, or at its beginning; it starts at a later `tick`."""
        job = new_job(kind, title, argv, run=run)
        with self._guard:
            self._shelf.put(job)
            waiting = [each for each in self._shelf.pending() if each != job.id]
            self._shelf.arrange([job.id, *waiting] if first else [*waiting, job.id])
        return job

    def move(self, id: str, place: int) -> None:  # noqa: A002
        """Give a waiting job another place: 0 is the next one."""
        with self._guard:
            if self.get(id).pending:
                others = [each for each in self._shelf.pending() if each != id]
                others.insert(max(0, place), id)
                self._shelf.arrange(others)

    def hold(self, id: str) -> None:  # noqa: A002
        """Let the others go before a waiting job until it is released."""
        with self._guard:
            if self.get(id).state == "waiting":
                self._shelf.put(replace(self.get(id), state="held"))

    def release(self, id: str) -> None:  # noqa: A002
        """Let a job that was held take its turn."""
        with self._guard:
            if self.get(id).state == "held":
                self._shelf.put(replace(self.get(id), state="waiting"))

    def pause_all(self, paused: bool) -> None:
        """Let no further training begin, or let them begin again; what runs goes on."""
        with self._guard:
            self._shelf.pause(paused)

    def stop(self, id: str) -> None:  # noqa: A002
        """Ask a job to end where it is; asking again changes nothing.

        A training that is stopped ends its batch and is evaluated: its run can be used. A job that
        waits is stopped before it began.
        """
        with self._guard:
            job = self.get(id)
            if job.pending:
                self._shelf.put(replace(job, state="stopped", cause=None, ended=time.time()))
            elif job.state == "running":
                self._ask(replace(job, state="stopping", asked=time.time()))
            elif job.state == "pausing" and job.signals == 1:
                # Its process has been asked to end; now it is not broken off after that.
                self._shelf.put_anyway(replace(job, state="stopping"))

    def stop_at_once(self, id: str) -> None:  # noqa: A002
        """Break off a job without an evaluation; asked again, its process is killed."""
        with self._guard:
            job = self.get(id)
            if job.active:
                self._ask(replace(job, state="stopping", asked=time.time()))

    def pause(self, id: str) -> None:  # noqa: A002
        """Ask a training to keep its state and to end, so that `resume` goes on from there."""
        with self._guard:
            job = self.get(id)
            if job.state == "running":
                self._ask(replace(job, state="pausing", asked=time.time()))

    def resume(self, id: str) -> None:  # noqa: A002
        """Put a job that is over in the queue's first place again.

        A training goes on from its run's last checkpoint, where it has one; anything else begins
        anew.
        """
        with self._guard:
            job = self.get(id)
            if not job.over:
                return
            self._shelf.put(
                replace(
                    job, state="waiting", cause=None, goes_on=True, pid=None, started=None,
                    ended=None, asked=None, signals=0,
                )
            )  # fmt: skip
            self._shelf.arrange([id, *(each for each in self._shelf.pending() if each != id)])

    def remove(self, id: str) -> None:  # noqa: A002
        """Forget a job; its run stays. A short one that is at work is ended."""
        with self._guard:
            job = self._shelf.find(id)
            if job is None:
                return
            if job.active and job.training:
                raise RunError(
                    "a job that is over",
                    f"{job.title} is at work",
                    "Stop it first, then remove it.",
                )
            folder = self._shelf.folder(job)
            self._children.end(folder, job.pid)
            self._children.status(folder)
            self._shelf.drop(job)

    # What happens by itself.

    def tick(self) -> set[str]:
        """Update the running jobs, and start those that are next.

        Called each second, in a thread: it asks the disk and starts processes.
        """
        with self._guard:
            for job in self._shelf.jobs():
                if job.active:
                    self._shelf.touched.add(job.id)
                    self._look(job)
                elif job.over and not job.training and _past(job):
                    self.remove(job.id)
            self._start_next()
            touched, self._shelf.touched = self._shelf.touched, set()
        return touched

    def _look(self, job: Job) -> None:
        """See whether a job is still at work, and which run it writes."""
        folder = self._shelf.folder(job)
        if not self._children.alive(folder, job.pid):
            # What it wrote last may name its run, whatever became of it.
            job = replace(job, run=run_of(job, self.runs))
            self._shelf.put_anyway(ended(job, folder, self._children.status(folder)))
            return
        if job.run is None and (run := run_of(job, self.runs)) is not None:
            job = replace(job, run=run)
            self._shelf.put_anyway(job)
        if job.state == "pausing" and job.signals == 1 and self._may_break_off(job):
            self._ask(job)

    def _may_break_off(self, job: Job) -> bool:
        asked = job.asked or 0.0
        if job.run is not None:
            for place in RunDirectory(self.runs / job.run).checkpoints.glob("*.json"):
                with contextlib.suppress(OSError):
                    if place.stat().st_mtime > asked:
                        return True
        return time.time() - asked > _PATIENCE

    def _start_next(self) -> None:
        """Start the jobs that are next."""
        active = [job for job in self._shelf.jobs() if job.active]
        free = self.at_once - sum(job.training for job in active)
        beside = BESIDE - sum(not job.training for job in active)
        for id_ in self._shelf.pending():
            job = self._shelf.get(id_)
            if job.state != "waiting":
                continue
            if job.training and free > 0 and not self.paused:
                free -= 1
            elif not job.training and beside > 0:
                beside -= 1
            else:
                continue
            self._start(job)

    def _start(self, job: Job) -> None:
        """Start a job's process, and write down that it runs."""
        folder = self._shelf.folder(job)
        job = replace(job, state="running", started=time.time())
        try:
            # Before the process is: a studio that dies in between starts no second one.
            self._shelf.put(job)
            pid = self._children.start(folder, self._argv(job), cwd=self.home.absolute())
        except (OSError, ValueError, OpsinError) as error:
            cause = (
                str(error) if isinstance(error, OpsinError) else f"it cannot be started: {error}"
            )
            self._shelf.put_anyway(replace(job, state="failed", cause=cause, ended=time.time()))
            return
        # A new attempt, unless it works on a run that is there, writes a run of its own.
        run = job.run if self._resumable(job) or job.kind == "resume" else None
        self._shelf.put_anyway(replace(job, pid=pid, run=run if job.training else job.run))
        with contextlib.suppress(StorageError):
            self._shelf.arrange(self._shelf.pending())

    def _argv(self, job: Job) -> Sequence[str]:
        if job.goes_on and job.run is not None and not (self.runs / job.run).is_dir():
            raise RunError(
                "the run that it goes on with", f"{job.run} is gone", "Restore it, or train again."
            )
        if job.run is not None and self._resumable(job):
            return command("resume", self.runs / job.run)
        return job.argv

    def _resumable(self, job: Job) -> bool:
        if not (job.goes_on and job.training and job.run):
            return False
        return any(RunDirectory(self.runs / job.run).checkpoints.glob("*.json"))

    def _ask(self, job: Job) -> None:
        """Tell a job's process to stop: gently, then at once, then by force."""
        job = replace(job, signals=job.signals + 1)
        self._shelf.put_anyway(job)
        if job.signals > 2:
            self._children.end(self._shelf.folder(job), job.pid)
        else:
            self._children.interrupt(self._shelf.folder(job), job.pid)


def _past(job: Job) -> bool:
    return time.time() - (job.ended or job.created) > _KEPT
