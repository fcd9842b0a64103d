"""How far a whole training is, and how long it still takes: one bar and one time everywhere."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
# Share of a phase from which its own speed says more than what was expected of it.
_TRUSTED: Final = 0.5
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


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a whole training: share, seconds left, and what it does now."""

    step: str
    share: float | None = None  # 0 to 1
    left: int | None = None
    phase: str = "start"
    is_late: bool = False  # a few seconds were left, and have passed

    @property
    def left_in_words(self) -> str:
        """The time left, as people say it."""
        if self.left is None:
            return ""
        if self.left <= SOON:
            return "longer than expected" if self.is_late else "a few seconds left"
        return f"{self.left} s left" if self.left < 60 else f"{clock(self.left)} left"


class TimeLeft:
    """A remaining time that never rises by more than a fifth from one look to the next."""

    def __init__(self) -> None:
        self.shown: int | None = None

    def see(self, estimate: float | None, passed: float) -> int | None:
        """The time to show, by a new estimate in seconds, and the seconds since the last look."""
        if estimate is not None and not math.isfinite(estimate):
            estimate = None
        if self.shown is None:
            self.shown = None if estimate is None else max(SOON, round(estimate))
            return self.shown
        expected = max(float(SOON), self.shown - passed)
        target = expected if estimate is None else max(float(SOON), estimate)
        wanted = round(expected + _TOWARDS * (target - expected))
        self.shown = max(SOON, min(wanted, int(self.shown * _RISE)))
        return self.shown


class ProgressOfAll:
    """The progress of all running trainings; the watcher keeps it up to date."""

    def __init__(self, jobs: Queue, runs: RunIndex) -> None:
        self._jobs, self._runs = jobs, runs
        self._followed: dict[str, _Followed] = {}

    def update(self) -> None:
        """Look at all running trainings."""
        jobs = self._jobs.jobs()
        active = {job.id: job for job in jobs if job.training and job.active}
        active |= {job.id: job for job in self.outside()}
        self._followed = {id_: item for id_, item in self._followed.items() if id_ in active}
        for job in active.values():
            if job.id not in self._followed:
                self._followed[job.id] = _Followed(job, factor_of(jobs))
            row = self._runs.find(job.run) if job.run else None
            self._followed[job.id].look(row.progress if row else None)

    def outside(self) -> list[Job]:
        """The trainings that run and were started elsewhere, as jobs without a command line."""
        ours = {job.run for job in self._jobs.jobs() if job.active}
        return [
            Job(row.id, "train", row.name, (), state="running", run=row.folder, started=row.started)
            for row in self._runs.rows()
            if row.state == "running" and row.folder not in ours
        ]

    def of(self, job: Job) -> TrainingProgress:
        """The progress of a training; of one that waits, that it waits."""
        followed = self._followed.get(job.id)
        if followed is not None:
            return followed.progress
        return TrainingProgress("Waiting to start" if job.pending else "Starting")


def factor_of(jobs: Sequence[Job]) -> float:
    """How much slower this machine is than expected, by the last heads that were trained."""
    ratios = [
        (job.ended - job.started) / sum(job.expected.values())
        for job in jobs
        if job.state == "done" and "heads" in job.expected and "epochs" not in job.expected
        and job.started and job.ended and not job.goes_on
    ]  # fmt: skip
    return min(10.0, max(0.2, statistics.median(ratios[:_MEASURED]))) if ratios else 1.0


class _Followed:
    """A running training, phase by phase."""

    def __init__(self, job: Job, factor: float) -> None:
        # A limit of time for its epochs is the same on every machine.
        self._expected = {
            phase: seconds if phase == "epochs" else factor * seconds
            for phase, seconds in job.expected.items()
        }
        # After the studio's restart the training has been at work for a while.
        self._spent = dict.fromkeys(PHASES, 0.0)
        self._spent["start"] = max(0.0, time.time() - (job.started or time.time()))
        self._phase, self._last = "start", time.monotonic()
        self._since = self._heartbeat = self._soon = 0.0
        self._time = TimeLeft()
        self.progress = TrainingProgress("Starting", left=self._time.see(self._remaining(0), 0))

    def look(self, status: RunStatus | None) -> None:
        """Take in what the training says of itself."""
        now = time.monotonic()
        passed, self._last = min(now - self._last, _LOOK_MOST), now
        epoch = epoch_of((status.doing if status else None) or "")
        phase = max(self._phase, "epochs" if epoch else self._phase_of(status), key=PHASES.index)
        heartbeat = status.heartbeat if status else 0.0
        if phase != self._phase or heartbeat != self._heartbeat:
            self._since, self._heartbeat = 0.0, heartbeat
        else:
            self._since += passed  # what the training says of itself is so old
        self._phase = phase
        self._spent[phase] += passed
        within, of_phase = 0.0, None
        if status is not None and phase == "epochs":
            within, of_phase = status.share or 0.0, status.left
        elif status is not None and phase in ("features", "heads") and status.total:
            within = min(1.0, status.done / status.total)
        estimate = self._remaining(within, of_phase)
        left = self._time.see(estimate, passed)
        self._soon = self._soon + passed if left == SOON else 0.0
        share = self.progress.share or 0.0
        if phase == "epochs" and status is not None and status.share is not None:
            share = max(share, 0.05 + 0.9 * status.share)
        elif left is not None:
            spent = sum(self._spent.values())
            share = max(share, spent / (spent + left))
        shown = min(0.99, share) if share > 0 or estimate is not None else None
        step = _STEPS.get(phase, self.progress.step)  # between two epochs, it stays
        if phase == "epochs" and epoch:
            step = f"Epoch {count(epoch[0])} of {count(epoch[1])}"
        self.progress = TrainingProgress(step, shown, left, phase, self._soon > _LATE)

    def _phase_of(self, status: RunStatus | None) -> str:
        if status is None or status.share != 1.0:
            return _BY_WORK.get((status.doing if status else None) or "", self._phase)
        fits_first = "epochs" in self._expected and self._phase != "epochs"
        return self._phase if fits_first else "finish"

    def _remaining(self, within: float, of_phase: float | None = None) -> float | None:
        """Seconds until the end: of the present phase, and of those that follow."""
        at = PHASES.index(self._phase)
        done = [phase for phase in PHASES[:at] if phase in self._expected]
        before = sum(self._expected[phase] for phase in done)
        slow = sum(self._spent[phase] for phase in done) / before if before else 1.0
        # Photographs that were seen before say nothing about the end.
        slow = min(8.0, max(1.0 if self._phase == "finish" else 0.3, slow))
        expected = self._expected.get(self._phase)
        spent = self._spent[self._phase]
        by_speed = None
        if within > 0 and spent > 0:
            by_speed = max(0.0, (spent - self._since) * (1 - within) / within - self._since)
        if of_phase is not None:
            present = max(0.0, of_phase - self._since)
        elif expected is None:
            if by_speed is None:
                return None
            present = by_speed
        elif within:
            present = slow * expected * (1 - within)
            if by_speed is not None:
                present += min(1.0, within / _TRUSTED) * (by_speed - present)
        else:
            present = max(slow * expected - spent, 1.0)
            slow = max(slow, min(8.0, spent / expected))
        if self._phase == "epochs":
            slow = 1.0  # how fast it reads photographs says nothing about its end
        later = {phase: self._expected.get(phase, 0.0) for phase in PHASES[at + 1 :]}
        finish = max(1.0, slow) * later.pop("finish", 0.0)
        return present + slow * sum(later.values()) + finish
