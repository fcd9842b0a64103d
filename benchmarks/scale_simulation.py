"""Tasks on nodes that fail and are not equally fast, event by event: a check of the formulas."""

from __future__ import annotations

import heapq
import random
import statistics
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.scale import Assumed, Plan

#: Simulations whose mean is compared.
REPEATS: Final = 20


@dataclass
class _Task:
    """A shard or a block.

    Args:
        slowness: How much longer it takes than the plan says.
        kept: Seconds of its work that are done and kept.
        began: When it was last begun.
    """

    slowness: float
    kept: float = 0.0
    began: float = 0.0


class Simulation:
    """One course of a plan.

    Nodes fail at random moments, and come back after a while; then the task that one had is the
    first to be taken up, by whichever node is free.

    Args:
        plan: The tasks.
        assumed: How nodes behave.
        seed: Another one gives another course.
    """

    def __init__(self, plan: Plan, assumed: Assumed, seed: int) -> None:
        self._plan, self._assumed = plan, assumed
        self._random = random.Random(seed)  # noqa: S311  a simulation
        self._now = self._written = 0.0
        self._events: list[tuple[float, int, Literal["done", "failed", "back"], _Task]] = []
        self._pushed = 0
        # Tasks that were begun before, and how many were not.
        self._again: list[_Task] = []
        self._fresh = plan.tasks
        self._idle = plan.workers
        #: Failures of nodes that had a task, drove or merged.
        self.failures = 0

    def run(self) -> float:
        """Return the seconds from the first command to the last row."""
        self._share_out()
        while self._events:
            self._now, _, kind, task = heapq.heappop(self._events)
            if kind == "done":
                self._written = max(self._written, self._now) + self._plan.writer
                self._idle += 1
            elif kind == "failed":
                self._fail(task)
            else:
                self._again.append(task)
                self._idle += 1
            self._share_out()
        last = max(self._now, self._written)
        if self._plan.ahead:
            return self._alone(self._plan.ahead, last)
        return last + self._alone(self._plan.merge)

    def _share_out(self) -> None:
        while self._idle and (self._again or self._fresh):
            if self._again:
                task = self._again.pop()
            else:
                task = _Task(self._slowness())
                self._fresh -= 1
            self._idle -= 1
            self._begin(task)

    def _begin(self, task: _Task) -> None:
        plan, task.began = self._plan, self._now
        left = plan.before + plan.work - task.kept + plan.after
        done, failed = left * task.slowness, self._until_failure()
        if done <= failed:
            self._push(done, "done", task)
        else:
            self._push(failed, "failed", task)

    def _fail(self, task: _Task) -> None:
        """Keep what a task had done of its work; the node and the task are back later."""
        progress = (self._now - task.began) / task.slowness - self._plan.before
        task.kept = min(self._plan.work, task.kept + max(0.0, progress))
        self.failures += 1
        self._push(self._assumed.replaced, "back", task)

    def _alone(self, before: float, work: float = 0.0) -> float:
        """Return the seconds of the one process that drives or merges."""
        seconds = 0.0
        while (failed := self._until_failure()) < before + work:
            seconds += failed + self._assumed.replaced
            work -= max(0.0, failed - before)
            self.failures += 1
        return seconds + before + work

    def _slowness(self) -> float:
        spread = self._assumed.spread
        return self._random.lognormvariate(-(spread**2) / 2, spread)

    def _until_failure(self) -> float:
        return self._random.expovariate(1 / self._assumed.lifetime)

    def _push(self, after: float, kind: Literal["done", "failed", "back"], task: _Task) -> None:
        self._pushed += 1
        heapq.heappush(self._events, (self._now + after, self._pushed, kind, task))


def simulated(plan: Plan, assumed: Assumed, repeats: int = REPEATS) -> tuple[float, float, float]:
    """Simulate a plan several times.

    Returns:
        Mean seconds, the standard error of that mean, and the mean number of failures.
    """
    seconds, failures = [], []
    for seed in range(repeats):
        course = Simulation(plan, assumed, seed)
        seconds.append(course.run())
        failures.append(course.failures)
    error = statistics.stdev(seconds) / repeats**0.5 if repeats > 1 else 0.0
    return statistics.mean(seconds), error, statistics.mean(failures)
