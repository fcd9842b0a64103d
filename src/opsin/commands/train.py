"""From a source to a run: load, train, export, evaluate, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from opsin.classical.classical_recipe import FITTED
from opsin.commands.load_dataset import load_for
from opsin.commands.recorder import recorded
from opsin.commands.resolve_recipe import ResolvedRecipe, decide
from opsin.commands.runs import Run
from opsin.commands.training_job import TrainingJob, follow, make, write_request
from opsin.commands.training_summary import tell_end, tell_start
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import SILENT, Watcher
from opsin.core.keyword_options import TrainOptions
from opsin.core.storage import check_writable
from opsin.data.audit import audit
from opsin.data.dataset import Dataset
from opsin.report.terminal import for_people, with_observers
from opsin.trackers.run_tracking import tracking_of
from opsin.training.process_group import ProcessGroup

if TYPE_CHECKING:
    from opsin.commands.training_job import Start


@checked
def train(
    data: object,
    *,
    model: str | None = None,
    budget: str | float | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    watcher: Watcher | None = None,
    observers: Sequence[Watcher] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
    offline: bool = False,
    **options: Unpack[TrainOptions],
) -> Run:
    """Train a classifier and evaluate the file that comes out.

    The first Ctrl-C ends the epoch where it is; the run is then finished with what there is, and
    `resume` can go on with it.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        model: ``mlp``, ``cnn`` or ``resnet``; ``auto`` (default) chooses network, size and recipe
            by the images and the machine. Without layers, and without PyTorch: ``logistic``,
            ``forest``, ``knn``, ``svm``, ``hist-gradient-boosting``.
        budget: Time that the training may take, in seconds or as ``10m``: epochs and size are
            fitted to it after a short measurement.
        runs: Folder for run directories.
        name: What the run directory is called (default: source and model).
        watcher: Receives the progress of the work (default: a progress display on standard error).
        observers: Get the same events beside the display, such as trackers of yours; one that
            raises costs a warning, and never the run.
        track: Programs that the run is shown in as well: ``tensorboard``, ``mlflow``, ``wandb``,
            or several with commas between them. One that fails costs a warning, never the run.
        quiet: Show nothing.
        offline: Fetch no pretrained network: use what is on this machine.
        **options: Fields of the recipe: ``epochs``, ``rate``, ``seed`` … (without layers those of
            `opsin.classical.classical_recipe`); with a source also those of its data part:
            ``classes``, ``size`` …

    Returns:
        The finished run. Where the loss ran away for good, ``report.training.diverged``
        says so, and the file is that of the best epoch before.

    Raises:
        MissingExtraError: PyTorch, or the package of a tracker, is not installed.
        SourceError: The source is missing, damaged, or no classifier can be made from it.
        RecipeError: An option has an impossible value.
        ParityError: The exported file answers otherwise than the network.
        StorageError: ``runs`` cannot be written, which is said at once; or the disk refuses a write
            later.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> run = train("digits", model="mlp", epochs=2, runs=folder, quiet=True)
        >>> run.accuracy > 0.5
        True
    """
    check_writable(Path(runs) / "run")  # at once, not when all is read
    began = time.perf_counter()
    watcher = watcher_of_run(watcher, observers, track, quiet=quiet)
    given: dict[str, Any] = {**options}
    model, dataset, backbone = load_for(data, model, given, offline=offline, watcher=watcher)

    def directory_of(network: str) -> RunDirectory:
        return RunDirectory.create(Path(runs), name or f"{dataset.recipe.title}-{network}")

    if model in FITTED:
        from opsin.commands.classical_job import train_classical  # noqa: PLC0415  quicker without

        return train_classical(
            lambda: directory_of(model),
            dataset,
            model=model,
            options={**given, "budget": budget},
            watcher=watcher,
            began=began,
            backbone=backbone,
        )
    decided = decide(dataset, model=model, budget=budget, options=given, watcher=watcher)
    return carry_out(
        lambda: directory_of(decided.recipe.model.name),
        dataset,
        decided,
        watcher=watcher,
        began=began,
        start=None,
    )


def watcher_of_run(
    watcher: Watcher | None,
    observers: Sequence[Watcher],
    track: str | Sequence[str] | None = None,
    *,
    quiet: bool,
) -> Watcher:
    """Return what gets the events of a run; of processes that train together, the first's do."""
    if not ProcessGroup.current().writes:
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
) -> Run:
    """Train in a run directory, with all processes of PyTorch's group if there is one.

    Args:
        directory_of: Finds or makes the directory, once everything else is known to be usable.
        dataset: What it learns from.
        decided: How.
        watcher: Receives the progress of the work.
        began: When the loading began (`time.perf_counter`).
        start: The state to go on from; ``None`` for fresh weights.
    """
    # The training half is loaded by the verbs that train.
    from opsin.training.device import choose_device, own_randomness, threads_for  # noqa: PLC0415
    from opsin.training.graceful_interrupt import graceful_interrupt  # noqa: PLC0415

    group = ProcessGroup.current()
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
        with threads_for(job.work), recorded(directory, watcher) as recorder:
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
