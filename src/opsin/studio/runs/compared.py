"""Comparisons of runs, kept with their jobs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Final

from opsin.core.errors import OpsinError, RecipeError
from opsin.core.files import file_stamp
from opsin.core.storage import write_bytes
from opsin.report.side_by_side import Comparison
from opsin.studio.jobs.job import Job, JobAnswer, command
from opsin.studio.jobs.queue import Queue
from opsin.studio.runs.run_index import RunIndex

#: Most runs in a comparison.
MOST: Final = 10
# The file of a job's folder that says what it compares.
_KEY: Final = "compared.txt"
_STARTING: Final = threading.Lock()


class Compared:
    """The result of `opsin compare` for some runs, valid until one of them changes."""

    def __init__(
        self, runs: RunIndex, jobs: Queue, ids: Sequence[str], names: Sequence[str] = ()
    ) -> None:
        if not 2 <= len(ids) <= MOST:
            raise RecipeError(f"Two to {MOST} classifiers can be compared, not {len(ids)}")
        self._jobs = jobs
        directories = [runs.get(run_id) for run_id in ids]
        paths = [str(run.path.absolute()) for run in directories]
        names = names or [runs.row(id_).name for id_ in ids]
        self._names = dict(zip(paths, names, strict=True))
        self._argv = command("compare", *self._names, "--quiet")
        files = [file for run in directories for file in (run.report, run.predictions, run.split)]
        # The runs and their state.
        self._key = f"{ids} {[tuple(file_stamp(file)) for file in files]}".encode()

    def _job(self) -> Job | None:
        """The job that compares or has compared the runs as they are, if any."""
        for job in self._jobs.jobs():
            if job.argv == self._argv and (job.state == "done" or not job.over):
                with contextlib.suppress(OSError):
                    if (self._jobs.folder(job) / _KEY).read_bytes() == self._key:
                        return job
        return None

    def known(self) -> Comparison | None:
        """Return the comparison, if it is made."""
        job = self._job()
        return self._jobs.output(job.id, Comparison) if job and job.state == "done" else None

    def start(self) -> Job:
        """Return the job that computes it: the present one, or a new one."""
        with _STARTING:  # windows wait for the same one
            if (job := self._job()) is None:
                job = self._jobs.add("compare", " and ".join(self._names.values()), self._argv)
                write_bytes(self._jobs.folder(job) / _KEY, self._key)
            return job

    def result(self, job: Job) -> Comparison:
        """Return the comparison of an ended job, or raise its error."""
        comparison = self._jobs.output(job.id, Comparison)
        if comparison is None:
            answer = self._jobs.output(job.id, JobAnswer)
            message = (job.cause or "The process ended without a message").rstrip(".")
            advice = "Load this page again."
            if answer and answer.error:
                message, advice = answer.error["message"], answer.error["advice"]
                if "opsin " in advice or "--" in advice:  # what to do at a command line
                    advice = "Compare classifiers that were tested on the same photographs."
            raise OpsinError(self.in_names(message), self.in_names(advice))
        return comparison

    def in_names(self, text: str) -> str:
        """Replace the runs' paths in a text by their names."""
        for path, name in self._names.items():
            text = text.replace(path, name)
        return text
