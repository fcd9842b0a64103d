"""The jobs there are and their order, kept."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from opsin.core.errors import RunError, StorageError
from opsin.core.storage import storage_errors, write_json
from opsin.studio.jobs.job import Job, read_job, write_job
from opsin.studio.not_found import NotThere


class JobStore:
    """All jobs, each in its folder, and the order of those that wait.

    Changes are made by one thread at a time; reading needs no lock, since every change puts a new
    table in the place of the old one.
    """

    def __init__(self, home: Path) -> None:
        self.root = home.absolute() / "jobs"
        self._file = home.absolute() / "queue.json"
        self._jobs: dict[str, Job] = {}
        self._order: tuple[str, ...] = ()
        self._paused = False
        #: Numbers of the jobs that changed; an empty one for their order.
        self.touched: set[str] = set()
        self._load()

    @property
    def paused(self) -> bool:
        """Whether no further training begins."""
        return self._paused

    def folder(self, job: Job) -> Path:
        """Return where a job's files are."""
        return self.root / job.id

    def jobs(self) -> list[Job]:
        """Return all jobs: those at work, then those that wait, in order, then the last ended."""
        places = {id_: place for place, id_ in enumerate(self._order)}

        def place(job: Job) -> tuple[int, float, float]:
            if job.active:
                return (0, job.started or 0.0, 0.0)
            if job.pending:
                return (1, places.get(job.id, len(places)), job.created)
            return (2, -(job.ended or job.created), 0.0)

        return sorted(self._jobs.values(), key=place)

    def pending(self) -> list[str]:
        """Return the ids of the waiting jobs, in order."""
        return [job.id for job in self.jobs() if job.pending]

    def find(self, number: str) -> Job | None:
        """Return a job, or ``None`` where there is none of this number."""
        return self._jobs.get(number)

    def get(self, number: str) -> Job:
        """Return a job."""
        job = self._jobs.get(number)
        if job is None:
            raise NotThere(
                "a job of the queue", "there is none of this number", "See the queue for all jobs."
            )
        return job

    def put(self, job: Job) -> None:
        """Keep a job, a new one or a changed one."""
        folder = self.folder(job)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_job(folder, job)
        self._jobs = {**self._jobs, job.id: job}
        self.touched.add(job.id)

    def put_anyway(self, job: Job) -> None:
        """Keep a job as it now is, in memory at least, even where the disk is full.

        For what has happened already, or must: a process that came or went, a wish to stop one.
        """
        with contextlib.suppress(StorageError):
            write_job(self.folder(job), job)
        self._jobs = {**self._jobs, job.id: job}
        self.touched.add(job.id)

    def drop(self, job: Job) -> None:
        """Forget a job and its files."""
        shutil.rmtree(self.folder(job), ignore_errors=True)
        self._jobs = {key: each for key, each in self._jobs.items() if key != job.id}
        self.touched.add(job.id)
        self.arrange(self.pending())

    def arrange(self, order: Sequence[str]) -> None:
        """Store the order of the waiting jobs."""
        if tuple(order) != self._order:
            self._keep(tuple(order), paused=self._paused)

    def pause(self, paused: bool) -> None:
        """Keep whether trainings may begin."""
        self._keep(self._order, paused=paused)

    def _keep(self, order: tuple[str, ...], *, paused: bool) -> None:
        write_json(self._file, {"order": list(order), "paused": paused})
        self._order, self._paused = order, paused
        self.touched.add("")

    def _load(self) -> None:
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if len(folder.name) != 12 or not (folder / "job.json").exists():
                continue
            try:
                self._jobs[folder.name] = read_job(folder)
            except RunError as error:
                then = folder.stat().st_mtime
                self._jobs[folder.name] = Job(
                    folder.name, "train", "A job whose file is damaged", (), created=then,
                    state="failed", cause=str(error), ended=then,
                )  # fmt: skip
        with contextlib.suppress(OSError, ValueError, RecursionError):
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            if isinstance(kept, dict):
                order = kept.get("order")
                self._order = tuple(map(str, order)) if isinstance(order, list) else ()
                self._paused = kept.get("paused") is True
