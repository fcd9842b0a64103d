"""Cached comparisons of runs."""

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

#: Most runs in a comparison.
MOST: Final = 10
# Most comparisons kept: each takes up to some megabytes.
_KEPT: Final = 50


class Compared:
    """The result of `opsin compare` for some runs, kept until one changes."""

    def __init__(self, runs: RunIndex, jobs: Queue, home: Path, ids: Sequence[str]) -> None:
        if not 2 <= len(ids) <= MOST:
            raise RecipeError(f"Two to {MOST} runs can be compared, not {len(ids)}")
        self._jobs = jobs
        self._runs: list[RunDirectory] = [runs.get(run_id) for run_id in ids]
        self._names = [runs.row(run_id).name for run_id in ids]
        stamps = [(run_id, _stamp(run)) for run_id, run in zip(ids, self._runs, strict=True)]
        #: A hash of the runs and their state.
        self.name = hashlib.blake2s(repr(stamps).encode(), digest_size=8).hexdigest()
        self._file: Path = home / "compare" / f"{self.name}.json"

    def known(self) -> Comparison | None:
        """Return the stored comparison, if any."""
        with contextlib.suppress(OSError, ValueError):
            return Comparison.model_validate_json(self._file.read_bytes())
        return None

    def start(self) -> Job:
        """Return the job that computes it: the running one, or a new one."""
        paths = [run.path.absolute() for run in self._runs]
        argv = command("compare", *paths, "--quiet")
        for job in self._jobs.jobs():
            if job.kind == "compare" and job.argv == argv and not job.over:
                return job
        return self._jobs.add("compare", " and ".join(self._names), argv)

    def keep(self, job: Job) -> Comparison:
        """Return and store the comparison of an ended job."""
        comparison = self._jobs.output(job.id, Comparison)
        answer = self._jobs.output(job.id, JobAnswer)
        self._jobs.remove(job.id)  # its answer is stored below, or its error raised
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
        # Remove the oldest: outdated ones are never requested.
        with contextlib.suppress(OSError):
            files = sorted(self._file.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for old in files[:-_KEPT]:
                old.unlink()
        return comparison

    def in_names(self, text: str) -> str:
        """Replace the runs' paths in a text by their names."""
        for run, name in zip(self._runs, self._names, strict=True):
            text = text.replace(str(run.path.absolute()), name).replace(str(run.path), name)
        return text


def _stamp(run: RunDirectory) -> list[tuple[int, int]]:
    stamps = map(file_stamp, (run.report, run.predictions, run.split))
    return [(stamp.mtime_ns, stamp.size) for stamp in stamps]
