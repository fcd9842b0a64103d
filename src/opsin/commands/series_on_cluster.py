"""The runs of a series, each trained on a node of a cluster."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import filelock

from opsin.commands.carry_out import run_known_as
from opsin.commands.load_dataset import nodes_must_see, sources_in
from opsin.commands.runs import Run
from opsin.commands.train import train
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import Report
from opsin.core.artifacts.run_status import RunStatus
from opsin.core.errors import RunError
from opsin.core.events import Watcher
from opsin.core.format import plus_minus
from opsin.core.pace import Pace
from opsin.core.storage import storage_errors
from opsin.data.dataset import Dataset
from opsin.runtime.cluster import Cluster, NodeNeeds
from opsin.training.process_group import known_as

# Seconds between two looks at what the runs say of themselves.
_OFTEN: Final = 1.0
# Seconds that a run which another process holds is waited for: one whose command was killed ends
# soon after it.
_PATIENCE: Final = 300.0


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of a series: its images, its seed, and how it is called in file names and words."""

    data: Dataset
    seed: int
    suffix: str
    words: str


def needs_of_series(
    data: object, runs: Path, options: Mapping[str, Any], *, torch: bool
) -> NodeNeeds:
    """Return what each node must have to train on images, and to write its run.

    Args:
        data: What the series is trained on.
        runs: Folder for run directories.
        options: Of all parts of the recipe.
        torch: Whether a network is trained.
    """
    given = data.recipe.sources if isinstance(data, Dataset) else sources_in(data)
    files = nodes_must_see(
        [*given, *(options.get(name) for name in ("test", "labels", "backbone"))]
    )
    packages = ("numpy", "onnxruntime", "scikit-learn", *(("torch",) if torch else ()))
    return NodeNeeds(tuple(files), str(runs.absolute()), packages)


@dataclass(frozen=True, eq=False)
class ClusterSeries:
    """A series that is trained on a cluster, and continued where it was begun before.

    Runs are known by what they are made of. The same command, started again, continues a series
    that has no summary of all its runs yet.

    Args:
        plans: Its runs.
        runs: Folder for run directories, which the nodes share.
        title: What run directories are called, before the suffix of each.
        options: As for `opsin.train`.
        offline: Likewise.
        track: Likewise.
        is_whole: Tells of the first run of a series whether its summary holds all runs.
    """

    plans: Sequence[PlannedRun]
    runs: Path
    title: str
    options: Mapping[str, Any]
    offline: bool
    track: str | Sequence[str] | None
    is_whole: Callable[[Run], bool]

    def train(
        self,
        cluster: Cluster,
        tell: Watcher,
        *,
        taken_over: Callable[[Run], Mapping[str, Any]],
        keep: Callable[[Sequence[Run]], object],
    ) -> None:
        """Train what is not done yet.

        Args:
            cluster: Where.
            tell: Receives the progress of all runs.
            taken_over: Returns the options that the others take over from the first run.
            keep: Is given the runs that are done, in order, each time there is one more.

        Raises:
            RunError: Another command trains the same series; or a run keeps ending its process.
            OpsinError: As from `opsin.train`.
        """
        with self._alone() as name:
            trainer = _RunTrainer(
                tuple(self.plans), str(self.runs.absolute()), os.getcwd(),  # noqa: PTH109
                self.title, name, self.offline, self.track,
            )  # fmt: skip
            _Following(self, cluster, trainer, tell, taken_over, keep).follow()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[str]:
        """Find the first series of this kind that is not whole, and keep others from it."""
        about = {
            "runs": [[plan.suffix, plan.seed] for plan in self.plans],
            "title": self.title,
            "data": [self.plans[0].data.fingerprint, self.plans[0].data.recipe.model_dump()],
            "options": dict(self.options),
        }
        text = json.dumps(about, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
        number = 1
        first = self.plans[0].suffix
        while (found := self.begun(f"{digest}-{number}", first)) is not None and self.is_whole(
            Run(found.path)
        ):
            number += 1
        name = f"{digest}-{number}"
        lock = filelock.FileLock(self.runs / f".{name}.lock")
        with storage_errors(self.runs):
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                raise RunError(
                    "a series of runs that no other command trains",
                    f"another one trains the same in {self.runs}",
                    "Wait until it is done, or stop it.",
                ) from None
        try:
            yield name
        finally:
            lock.release()
            with contextlib.suppress(OSError):
                os.unlink(lock.lock_file)  # noqa: PTH108

    def begun(self, name: str, suffix: str) -> RunDirectory | None:
        """Return the directory of a run, where it was begun."""
        return run_known_as(f"{name}-{suffix}", self.runs, f"*-{suffix}*")


class _Notes(Watcher):
    """Collects the warnings of a run, to be shown where the command was started."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@dataclass(frozen=True, eq=False)
class _RunTrainer:
    """Trains one run of a series, on a node.

    Args:
        plans: All runs; their images travel together, since they are the same.
        runs: Folder for run directories.
        folder: Where the command was started: what relative paths mean.
        title: What run directories are called, before the suffix of each.
        name: The series, as its runs are known by.
        offline: As for `opsin.train`.
        track: Likewise.
    """

    plans: tuple[PlannedRun, ...]
    runs: str
    folder: str
    title: str
    name: str
    offline: bool
    track: str | Sequence[str] | None

    def __call__(self, number: int, options: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Return the name of the run's directory, and its warnings."""
        with contextlib.suppress(OSError):
            os.chdir(self.folder)
        plan, notes = self.plans[number], _Notes()
        launch = f"{self.name}-{plan.suffix}"
        self._wait_for(launch)
        with known_as(launch):
            run = train(
                plan.data,
                runs=self.runs,
                name=f"{self.title}-{plan.suffix}",
                watcher=notes,
                track=self.track,
                offline=self.offline,
                **{**options, "seed": plan.seed},
            )
        return run.path.name, notes.texts

    def _wait_for(self, launch: str) -> None:
        """Wait until a former process of the same run has ended."""
        until = time.monotonic() + _PATIENCE
        while (found := run_known_as(launch, Path(self.runs))) is not None:
            if found.state()[0] != "running" or time.monotonic() > until:
                return
            time.sleep(_OFTEN)


@dataclass
class _Following:
    """The command's side of a series: starts the runs, and follows them by their directories."""

    series: ClusterSeries
    cluster: Cluster
    trainer: _RunTrainer
    tell: Watcher
    taken_over: Callable[[Run], Mapping[str, Any]]
    keep: Callable[[Sequence[Run]], object]
    _options: Mapping[str, Any] | None = None
    _waiting: dict[Future[tuple[str, list[str]]], int] = field(default_factory=dict)
    _begun: dict[int, RunDirectory] = field(default_factory=dict)
    _done: dict[int, Run] = field(default_factory=dict)

    def follow(self) -> None:
        """Start all runs, and return when they are done."""
        for number in range(len(self.series.plans)):
            if (found := self._find(number)) is not None and found.state()[0] == "done":
                self._finish(number, Run(found.path), "was done before")
        pace = Pace(len(self.series.plans))
        self._start(0, dict(self.series.options))
        self.tell.begin("Train", len(self.series.plans), "runs")
        try:
            while self._waiting or len(self._done) < len(self.series.plans):
                self._start_others()
                ended, _ = wait(self._waiting, timeout=_OFTEN, return_when=FIRST_COMPLETED)
                for future in ended:
                    self._take(future)
                self._show(pace)
        finally:
            self.tell.end()

    def _start(self, number: int, options: Mapping[str, Any]) -> None:
        if number not in self._done:
            future = self.cluster.submit(self.trainer, number, options)
            self._waiting[future] = number

    def _start_others(self) -> None:
        """Start the others once it is known what the first run chose by measuring.

        That is written before it trains.
        """
        if self._options is None and (first := self._find(0)) is not None:
            with contextlib.suppress(RunError):  # not yet
                self._options = self.taken_over(Run(first.path))
                for number in range(1, len(self.series.plans)):
                    self._start(number, self._options)

    def _take(self, future: Future[tuple[str, list[str]]]) -> None:
        number = self._waiting.pop(future)
        plan = self.series.plans[number]
        try:
            name, notes = future.result()
        except BrokenExecutor as error:
            raise RunError(
                "a process that trains to the end",
                f"the one of {plan.suffix} ended again and again ({_first_line(error)})",
                "See whether its node has enough memory. Started again, the command continues.",
            ) from error
        for note in notes:
            self.tell.note(f"{plan.suffix}: {note}")
        run = Run(self.series.runs / name)
        if run.directory.read(Report).training.interrupted:
            # Its node was asked to stop.
            options = self._options if number else None
            self._start(number, options or dict(self.series.options))
            return
        self._finish(number, run)

    def _finish(self, number: int, run: Run, remark: str | None = None) -> None:
        self._done[number] = run
        accuracy = plus_minus(run.directory.read(Report).judged)
        words = f"{self.series.plans[number].words} · {run.path} · accuracy {accuracy}"
        self.tell.fact("Done", words if remark is None else f"{words} · {remark}")
        self.keep([self._done[each] for each in sorted(self._done)])

    def _find(self, number: int) -> RunDirectory | None:
        """Return a run's directory, once there is one."""
        if number not in self._begun:
            found = self.series.begun(self.trainer.name, self.series.plans[number].suffix)
            if found is None:
                return None
            self._begun[number] = found
        return self._begun[number]

    def _show(self, pace: Pace) -> None:
        """Say how far all runs are, and those that are being trained."""
        shares: dict[int, float] = dict.fromkeys(self._done, 1.0)
        for number in set(self._waiting.values()):
            if (found := self._find(number)) is not None:
                with contextlib.suppress(RunError):
                    shares[number] = RunStatus.read(found.status).share or 0.0
        total = sum(shares.values())
        pace.saw(total)
        left = {} if pace.left is None else {"left": pace.left}
        named = {self.series.plans[each].suffix: shares[each] for each in sorted(shares)}
        running = {name: share for name, share in named.items() if share < 1}
        self.tell.advance(len(self._done), share=total / len(self.series.plans), **left, **running)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
