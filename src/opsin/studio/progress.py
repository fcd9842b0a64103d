"""How far a whole training is, and how long it still takes: one bar and one time everywhere."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Final

from opsin.core.artifacts.records import RunStatus
from opsin.core.events import epoch_of
from opsin.core.format import clock, count
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import Queue
from opsin.studio.runs.run_index import RunIndex

#: The phases of a training in their order; which of them it has depends on what is trained.
PHASES: Final = ("start", "features", "heads", "epochs", "finish")
#: Seconds below which the time left is not counted down, and after which it is late.
SOON: Final = 5
_LATE: Final = 12.0
# By how much the time left may rise at once; and the part of a difference that one look takes.
_RISE, _TOWARDS = 1.2, 0.4
# Most seconds between two looks that count: a machine that slept has not worked.
_LOOK_MOST: Final = 10.0
# Ended trainings that say how fast this machine is.
_MEASURED: Final = 5
# Phases by what a training says that it does.
_BY_WORK: Final = {"Features": "features", "Heads": "heads", "Pixels": "features", "Fit": "heads"}
_STEPS: Final = {
    "start": "Reading the photographs",
    "features": "Looking at each photograph with a network that has seen a million",
    "heads": "Learning your classes, and judging each photograph unseen",
    "finish": "Checking the classifier and writing its results",
}


def time_left(shown: int | None, estimate: float | None, passed: float) -> int | None:
    """The seconds to show ``passed`` seconds after ``shown``: they rise by a fifth at most."""
    expected = None if shown is None else max(float(SOON), shown - passed)
    if estimate is None or not math.isfinite(estimate):
        estimate = expected
    if shown is None or expected is None or estimate is None:
        return None if estimate is None else max(SOON, round(estimate))
    wanted = round(expected + _TOWARDS * (max(float(SOON), estimate) - expected))
    return max(SOON, min(wanted, int(shown * _RISE)))


class TrainingProgress:
    """The progress of a whole training: share, seconds left, and what it does now."""

    def __init__(self, job: Job, factor: float = 1.0) -> None:
        self.step, self.phase = "Waiting to start" if job.pending else "Starting", "start"
        self.share: float | None = None  # 0 to 1
        # A limit of time for its epochs is the same on every machine.
        self._expected = {
            phase: seconds if phase == "epochs" else factor * seconds
            for phase, seconds in job.expected.items()
        }
        self.left = time_left(None, sum(self._expected.values()) or None, 0)
        # After the studio's restart the training has been at work for a while.
        self._spent = {"start": max(0.0, time.time() - (job.started or time.time()))}
        self._present = self._expected.get("start")  # seconds left of the present phase
        self._status: RunStatus | None = None
        self._last, self._soon = time.monotonic(), 0.0

    @property
    def left_in_words(self) -> str:
        """The time left, as people say it."""
        if self.left is None:
            return ""
        if self.left <= SOON:  # a few seconds were left; they may have passed
            return "longer than expected" if self._soon > _LATE else "a few seconds left"
        return f"{self.left} s left" if self.left < 60 else f"{clock(self.left)} left"

    def look(self, status: RunStatus | None) -> None:
        """Take in what the training says of itself."""
        now = time.monotonic()
        passed, self._last = min(now - self._last, _LOOK_MOST), now
        epoch = epoch_of((status.doing if status else None) or "")
        phase = max(self.phase, "epochs" if epoch else self._phase_of(status), key=PHASES.index)
        if phase != self.phase:
            self.phase, self._present = phase, self._expected.get(phase)
        elif self._present is not None:
            self._present = max(1.0, self._present - passed)
        self._spent[phase] = self._spent.get(phase, 0.0) + passed
        if status is not None and status != self._status:
            self._learn(status)
        self._status = status
        later = sum(self._expected.get(each, 0.0) for each in PHASES[PHASES.index(phase) + 1 :])
        estimate = None if self._present is None else self._present + later
        self.left = time_left(self.left, estimate, passed)
        self._soon = self._soon + passed if self.left == SOON else 0.0
        share, spent = self.share or 0.0, sum(self._spent.values())
        if phase == "epochs" and status is not None and status.share is not None:
            share = max(share, 0.05 + 0.9 * status.share)
        elif self.left is not None:
            share = max(share, spent / (spent + self.left))
        self.share = min(0.99, share) or None
        self.step = _STEPS.get(phase, self.step)  # between two epochs, it stays
        if phase == "epochs" and epoch:
            self.step = f"Epoch {count(epoch[0])} of {count(epoch[1])}"

    def _learn(self, status: RunStatus) -> None:
        """Correct the time of the present phase by what the training says."""
        done, spent = min(1.0, status.done / (status.total or 1.0)), self._spent[self.phase]
        if self.phase == "epochs":
            self._present = self._present if status.left is None else status.left
        elif self.phase in ("features", "heads") and status.total and done:
            by_speed = spent * (1 - done) / done
            expected = by_speed if self._present is None else self._present
            # From the middle on, its own speed says more than what was expected of it.
            self._present = expected + min(1.0, 2 * done) * (by_speed - expected)

    def _phase_of(self, status: RunStatus | None) -> str:
        if status is None or status.share != 1.0:
            return _BY_WORK.get((status.doing if status else None) or "", self.phase)
        fits_first = "epochs" in self._expected and self.phase != "epochs"
        return self.phase if fits_first else "finish"


class ProgressOfAll:
    """The progress of all running trainings; the watcher keeps it up to date."""

    def __init__(self, jobs: Queue, runs: RunIndex) -> None:
        self._jobs, self._runs = jobs, runs
        self._followed: dict[str, TrainingProgress] = {}

    def update(self) -> None:
        """Look at all running trainings."""
        jobs, followed = self._jobs.jobs(), {}
        for job in (job for job in jobs if job.training and job.active):
            known = self._followed.get(job.id)
            followed[job.id] = known or TrainingProgress(job, factor_of(jobs))
            row = self._runs.find(job.run) if job.run else None
            followed[job.id].look(row.progress if row else None)
        self._followed = followed

    def of(self, job: Job) -> TrainingProgress:
        """The progress of a training; of one that waits, that it waits."""
        return self._followed.get(job.id) or TrainingProgress(job)


def factor_of(jobs: Sequence[Job]) -> float:
    """How much slower this machine is than expected, by the last heads that were trained."""
    ratios = [
        (job.ended - job.started) / sum(job.expected.values())
        for job in jobs
        if job.state == "done"
        and "heads" in job.expected
        and "epochs" not in job.expected
        and job.started
        and job.ended
        and not job.goes_on
    ]
    return min(10.0, max(0.2, statistics.median(ratios[:_MEASURED]))) if ratios else 1.0
