"""Comparisons of classifiers, kept with their jobs, and what they say."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Sequence
from typing import Final

from opsin.core.errors import OpsinError, RecipeError
from opsin.core.files import file_stamp
from opsin.core.format import count, counted
from opsin.core.storage import write_bytes
from opsin.report.side_by_side import ComparedPair, Comparison
from opsin.studio.jobs.job import Job, JobAnswer, command
from opsin.studio.jobs.queue import JobAction, Queue
from opsin.studio.runs.run_index import RunIndex
from opsin.studio.threads import IMAGES

#: Most classifiers in a comparison.
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
        self._argv = command("compare", *paths, "--quiet")
        files = [file for run in directories for file in (run.report, run.predictions, run.split)]
        # The runs and their state.
        self._key = f"{ids} {[tuple(file_stamp(file)) for file in files]}".encode()

    async def get(self) -> Comparison:
        """The comparison, made first if there is none yet."""
        asked = JobAction(self._jobs, await IMAGES.run(self.start))
        await asked.over()
        return await IMAGES.run(self.result, asked.job)

    def start(self) -> Job:
        """The job that compares the runs as they are, or has done so, or a new one."""
        with _STARTING:  # windows wait for the same one
            for job in self._jobs.jobs():
                if job.argv == self._argv and (job.state == "done" or not job.over):
                    with contextlib.suppress(OSError):
                        if (self._jobs.folder(job) / _KEY).read_bytes() == self._key:
                            return job
            job = self._jobs.add("compare", " and ".join(self._names.values()), self._argv)
            write_bytes(self._jobs.folder(job) / _KEY, self._key)
            return job

    def result(self, job: Job) -> Comparison:
        """The comparison of an ended job, or its error."""
        if (found := self._jobs.output(job.id, Comparison)) is not None:
            lines = [self._in_words(line) for line in (*found.notes, *found.remarks)]
            return found.model_copy(update={"notes": tuple(lines), "remarks": []})
        answer = self._jobs.output(job.id, JobAnswer)
        message = (job.cause or "The process ended without a message").rstrip(".")
        advice = "Load this page again."
        if answer and answer.error:
            message, advice = answer.error["message"], answer.error["advice"]
            if "opsin " in advice or "--" in advice:  # what to do at a command line
                advice = "Compare classifiers that were tested on the same photographs."
        raise OpsinError(self._in_words(message, end=""), advice)

    def _in_words(self, text: str, end: str = ".") -> str:
        """What the report says of runs and images, in the studio's words and names."""
        paths = sorted(self._names, key=len, reverse=True)  # one may begin another
        for at, path in enumerate(paths):
            text = text.replace(path, f"\0{at}\0")
        for word, ours in (("image", "photograph"), ("run", "classifier")):
            text = re.sub(rf"\b{word}(s?)\b", rf"{ours}\1", text)
        for at, path in enumerate(paths):
            text = text.replace(f"\0{at}\0", self._names[path])
        return f"{text[:1].upper()}{text[1:].rstrip('.')}{end}"


def verdict_on(pair: ComparedPair, first: str, other: str) -> tuple[str, str]:
    """Which of two classifiers is right more often; and by how much."""
    low, difference, high = (
        f"{100 * value:+.1f}".replace("-", "−") for value in (pair.low, pair.difference, pair.high)
    )
    points = f"{other} compared with {first}: {difference} points ({low} to {high})."
    if pair.better is None:
        return f"No clear winner on {counted(pair.images, 'photograph')}", points
    winner, ahead, behind = first, pair.only_first, pair.only_second
    if pair.better == pair.letters[1]:
        winner, ahead, behind = other, behind, ahead
    better, worse = counted(ahead, "photograph"), count(behind) if behind else "none"
    return f"{winner} is right more often: {better} better, {worse} worse", points
