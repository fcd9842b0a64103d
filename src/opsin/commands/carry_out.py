"""A training in its run directory, by one process or by several together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from opsin.commands.conclude import write_request
from opsin.commands.recorder import recorded
from opsin.commands.resolve_recipe import ResolvedRecipe
from opsin.commands.runs import Run
from opsin.commands.training_job import TrainingJob, follow, make
from opsin.commands.training_summary import tell_end, tell_start
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_status import RunStatus
from opsin.core.errors import RunError
from opsin.core.events import SILENT, Watcher
from opsin.data.audit import audit
from opsin.data.dataset import Dataset
from opsin.report.terminal import for_people, with_observers
from opsin.trackers.tracking import tracking_of
from opsin.training.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    from opsin.commands.training_job import Start


def watcher_of_run(
    watcher: Watcher | None,
    observers: Sequence[Watcher],
    track: str | Sequence[str] | None = None,
    *,
    quiet: bool,
    group: ProcessGroup = ALONE,
) -> Watcher:
    """Return what gets the events of a run; of processes that train together, the first's do."""
    if not group.writes:
        return SILENT
    display = watcher or for_people(quiet=quiet)
    return with_observers(display, [*observers, *tracking_of(track, display)])


def carry_out(
    directory_of: Callable[[], RunDirectory],
    dataset: Dataset,
    decided: ResolvedRecipe,
    *,
    watcher: Watcher,
    began: float,
    start: Start | None,
    group: ProcessGroup,
) -> Run:
    """Train in a run directory.

    Args:
        directory_of: Finds or makes the directory, once everything else is known to be usable.
        dataset: What it learns from.
        decided: How.
        watcher: Receives the progress of the work.
        began: When the loading began (`time.perf_counter`).
        start: The state to go on from; ``None`` for fresh weights.
        group: The processes that do so together.
    """
    # The training half is loaded by the verbs that train.
    from opsin.training.device import choose_device, own_randomness, threads_for  # noqa: PLC0415
    from opsin.training.graceful_interrupt import graceful_interrupt  # noqa: PLC0415

    decided = group.first(decided)  # a budget is measured by the clock
    audited = audit(dataset, watcher=watcher)
    training = decided.recipe.training
    with own_randomness(choose_device(training.device), training.seed):
        job = TrainingJob.prepare(dataset, audited, decided, group)
        group.wait()  # until every process has read what it goes on from
        if not group.writes:
            return Run(follow(job, start))
        directory = directory_of()
        group.first(directory.path)
        with threads_for(job.work), recorded(directory, watcher, group.launch) as recorder:
            write_request(directory, job)
            recorder.run_started(directory.path)
            tell_start(recorder, directory, job)
            seconds = {"load": time.perf_counter() - began}
            # Held to the end: once trained, a Ctrl-C would only lose what is nearly done.
            with graceful_interrupt() as stop:
                report = make(directory, job, recorder, seconds=seconds, stop=stop, start=start)
            tell_end(recorder, report)
        group.wait()
    return Run(directory.path)


def begun_before(root: Path, group: ProcessGroup) -> RunDirectory | None:
    """Return the run that these processes had begun, where they may have been started again.

    Args:
        root: Folder for run directories.
        group: The processes.
    """
    if not group.restarted:
        return None
    found = run_known_as(group.launch, root) if group.writes else None
    path = group.first(None if found is None else found.path)
    return None if path is None else RunDirectory(path)


def run_known_as(launch: str | None, root: Path, names: str = "*") -> RunDirectory | None:
    """Return the newest run that was begun under a name for processes that are started again.

    Args:
        launch: The name.
        root: Folder for run directories.
        names: A pattern that its directory's name fits.
    """
    found: list[tuple[float, Path]] = []
    for file in root.glob(f"{names}/{RunStatus.FILE}"):
        with contextlib.suppress(RunError):  # a damaged one
            status = RunStatus.read(file)
            if status.launch == launch:
                found.append((status.started or 0.0, file.parent))
    return RunDirectory(max(found)[1]) if found else None
