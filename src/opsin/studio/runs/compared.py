"""Comparisons of runs, made once and kept."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import OpsinError, RecipeError
from opsin.core.files import file_stamp
from opsin.core.storage import write_json
from opsin.report.side_by_side import Comparison
from opsin.studio.jobs.job import Job, JobAnswer, command
from opsin.studio.jobs.queue import Queue
from opsin.studio.runs.run_index import RunIndex

#: Runs that are compared at once, at most.
MOST: Final = 10
# Comparisons that are kept: each takes up to some megabytes.
_KEPT: Final = 50


class Compared:
    """What `opsin compare` said of some runs, kept until one of them changes."""

    def __init__(self, runs: RunIndex, jobs: Queue, home: Path, ids: Sequence[str]) -> None:
        if not 2 <= len(ids) <= MOST:
            raise RecipeError(f"Two to {MOST} runs can be compared, not {len(ids)}")
        self._jobs = jobs
        self._runs: list[RunDirectory] = [runs.get(run_id) for run_id in ids]
        self._names = [runs.row(run_id).name for run_id in ids]
        stamps = [(run_id, _stamp(run)) for run_id, run in zip(ids, self._runs, strict=True)]
        #: The same for the same runs as they are now, and no others.
        self.name = hashlib.blake2s(repr(stamps).encode(), digest_size=8).hexdigest()
        self._file: Path = home / "compare" / f"{self.name}.json"

    def known(self) -> Comparison | None:
        """Return the comparison, if it was made before."""
        with contextlib.suppress(OSError, ValueError):
            return Comparison.model_validate_json(self._file.read_bytes())
        return None

    def start(self) -> Job:
        """Return the job that makes it: the one that is at it already, or a new one."""
        paths = [run.path.absolute() for run in self._runs]
        argv = command("compare", *paths, "--quiet")
        for job in self._jobs.jobs():
            if job.kind == "compare" and job.argv == argv and not job.over:
                return job
        return self._jobs.add("compare", " and ".join(self._names), argv)

    def keep(self, job: Job) -> Comparison:
        """Return what a job that is over has found, and keep it."""
        comparison = self._jobs.output(job.id, Comparison)
        answer = self._jobs.output(job.id, JobAnswer)
        self._jobs.remove(job.id)  # its answer is kept here, or told now
        if comparison is None:
            if answer is not None and answer.error is not None:
                error = OpsinError(answer.error["message"], answer.error["advice"])
            else:
                cause = job.cause or "The process ended without a message"
                error = OpsinError(cause.rstrip("."), "Load this page again.")
            for run, name in zip(self._runs, self._names, strict=True):
                error.replace(str(run.path.absolute()), name).replace(str(run.path), name)
            raise error
        write_json(self._file, comparison.to_json())
        # Those made longest ago go: those of runs that changed are never asked for.
        with contextlib.suppress(OSError):
            files = sorted(self._file.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for old in files[:-_KEPT]:
                old.unlink()
        return comparison

    def in_names(self, text: str) -> str:
        """Return a text of the comparison with names for the paths of the runs."""
        for run, name in zip(self._runs, self._names, strict=True):
            text = text.replace(str(run.path.absolute()), name).replace(str(run.path), name)
        return text


def _stamp(run: RunDirectory) -> list[tuple[int, int]]:
    stamps = map(file_stamp, (run.report, run.predictions, run.split))
    return [(stamp.mtime_ns, stamp.size) for stamp in stamps]
