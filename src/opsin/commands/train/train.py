"""From a source to a run: load, decide, fit, export, calibrate, test, report."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Unpack

from opsin.classical.classical_recipe import FITTED
from opsin.commands.runs import Run
from opsin.commands.train.finish import finish, write_request
from opsin.commands.train.learner import Learner, Loaded
from opsin.commands.train.load import load_for, model_asked
from opsin.commands.train.recorder import graceful_interrupt, recorded, watcher_of_run
from opsin.commands.train.resume import begun_before, learner_of
from opsin.commands.train.words import tell_end, tell_start
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import SILENT, Watcher
from opsin.core.keyword_options import TrainOptions
from opsin.core.storage import check_writable
from opsin.data.audit import audit
from opsin.data.dataset import Dataset
from opsin.data.run_images import Places
from opsin.training.process_group import ALONE, ProcessGroup, joined, refuse_several

_IN_ONE_GO: Final = "a model that is not a network trained from the start"


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

    Processes that ``torchrun`` started train one network together, and return the same run; started
    again, they continue the run that they had begun.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        model: ``mlp``, ``cnn`` or ``resnet``; ``auto`` (default) takes a pretrained network, or
            chooses network, size and recipe, by the images and the machine. Without layers, and
            without PyTorch: ``logistic``, ``forest``, ``knn``, ``svm``.
        budget: Time that the training may take, in seconds or as ``10m``. Where ``auto`` takes a
            pretrained network, it is fine-tuned in what is left of it; else epochs and size are
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
        **options: Fields of the recipe: ``epochs``, ``learning_rate``, ``seed`` … (without
            layers those of `opsin.classical.classical_recipe`); with a source also those of its
            data part: ``classes``, ``size`` …

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
    with joined() as group:
        tell = watcher_of_run(watcher, observers, track, quiet=quiet, group=group)
        requested: dict[str, Any] = {**options}
        begun, done = begun_before(Path(runs), group)
        if begun is not None and done:
            return Run(begun.path)
        if model_asked(model, requested) in FITTED:  # said at once
            refuse_several(_IN_ONE_GO)
        loaded = load_for(data, model, requested, budget=budget, offline=offline, watcher=tell)
        if loaded.model in FITTED:
            refuse_several(_IN_ONE_GO)
        goes_on = requested.get("fine_tune") or loaded.model not in FITTED
        if begun is not None and begun.recipe.is_file() and goes_on:
            learner = learner_of(begun, loaded.dataset, group=group, watcher=tell, began=began)
        else:
            learner = decide(loaded, requested, began=began, watcher=tell)

        def directory_of() -> RunDirectory:
            title = name or f"{loaded.dataset.recipe.title}-{learner.recipe.model.name}"
            return begun or RunDirectory.create(Path(runs), title)

        return run_training(learner, directory_of, watcher=tell, began=began, group=group)


@checked
def resume(
    run: str | os.PathLike[str],
    data: Dataset | Places = (),
    *,
    name: str | None = None,
    watcher: Watcher | None = None,
    observers: Sequence[Watcher] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
    **changes: Any,
) -> Run:
    """Go on with a training from its newest whole checkpoint, bit for bit as if never left.

    Args:
        run: A run that was stopped, killed or has failed. With ``changes``, a finished one too.
        data: Its images, if they came from arrays in memory, or where they are now, if they were
            moved (default: read from its sources). They must be the same.
        name: What a new run is called (default: its parent's name).
        watcher: Receives the progress of the work (default: a progress display on standard error).
        observers: Get the same events beside the display, such as trackers of yours; one that
            raises costs a warning, and never the run.
        track: As for `opsin.train`. A run that was tracked before goes on there, too, and a new
            one is a new one.
        quiet: Show nothing.
        **changes: Options of the training that are to be others from here on: ``epochs``,
            ``learning_rate`` … The training then goes on in a new run that names this one as its
            parent.

    Returns:
        The finished run: the same one, or the new one.

    Raises:
        RunError: Another process works on the run, it has no checkpoint to go on from, it is
            done, or its images are in another order or have another split.
        MovedError: The images are gone, and ``data`` does not say where to.
        SourceError: The images have changed since.
        RecipeError: An option that cannot be changed, or nothing is left to train.

    Example:
        >>> import tempfile
        >>> from opsin import train
        >>> runs = tempfile.mkdtemp()
        >>> run = train("digits", model="mlp", epochs=2, runs=runs, quiet=True)
        >>> longer = resume(run, epochs=3, quiet=True)
        >>> longer.recipe.parent == run.path.name
        True
    """
    began = time.perf_counter()
    with joined() as group:
        tell = watcher_of_run(watcher, observers, track, quiet=quiet, group=group)
        changes = {key: value for key, value in changes.items() if value is not None}
        begun, done = begun_before(Path(run).parent, group)
        if begun is not None and done:
            return Run(begun.path)
        if begun is not None and begun.recipe.is_file():
            run, changes, name = begun.path, {}, None
        parent = RunDirectory.open(run)
        learner = learner_of(
            parent, data, changes, name=name, group=group, watcher=tell, began=began
        )

        def directory_of() -> RunDirectory:
            if not changes:
                return parent
            # Without its date and the number of its namesakes.
            title = name or re.sub(r"^\d{4}-\d\d-\d\d-|-\d+$", "", parent.path.name)
            return RunDirectory.create(parent.path.parent, title or parent.path.name)

        return run_training(learner, directory_of, watcher=tell, began=began, group=group)


def decide(loaded: Loaded, options: dict[str, Any], *, began: float, watcher: Watcher) -> Learner:
    """The learner for what was loaded, which decides everything that the caller left open."""
    if options.get("fine_tune"):
        from opsin.commands.train.fine_tune import FineTuneLearner  # noqa: PLC0415  PyTorch

        return FineTuneLearner.decide(loaded, options, began=began)
    if loaded.model in FITTED:
        from opsin.commands.train.head import HeadLearner  # noqa: PLC0415  scikit-learn

        return HeadLearner.decide(loaded, options, began=began)
    from opsin.commands.train.network import NetworkLearner  # noqa: PLC0415  PyTorch

    return NetworkLearner.decide(loaded, options, watcher)


def run_training(
    learner: Learner,
    directory_of: Callable[[], RunDirectory],
    *,
    watcher: Watcher,
    began: float,
    group: ProcessGroup = ALONE,
) -> Run:
    """Train in a directory that is found or made once all else is known to be usable."""
    audited = audit(learner.dataset, watcher=watcher)
    with learner.ready(group):
        if not group.writes:  # another process writes the run, and this one trains with it
            directory = RunDirectory(group.first(Path()))
            with graceful_interrupt() as stop:
                learner.fit(directory, SILENT, stop)
            group.wait()
            return Run(directory.path)
        directory = directory_of()
        group.first(directory.path)
        with recorded(directory, watcher, group.launch) as recorder:
            write_request(directory, learner, audited)
            recorder.run_started(directory.path)
            tell_start(recorder, directory, learner, audited)
            seconds = {"load": time.perf_counter() - began}
            # Held to the end: once trained, a Ctrl-C would only lose what is nearly done.
            with graceful_interrupt() as stop:
                trained = learner.fit(directory, recorder, stop)
                recorder.stopped, recorder.cause = learner.stopped, learner.cause
                at = time.perf_counter()
                recorder.doing("the export")
                exported = learner.export(directory, recorder)
                if trained is not None:
                    seconds |= {"train": trained, "export": time.perf_counter() - at}
                report = finish(
                    directory, learner, exported, audited, recorder, seconds=seconds,
                    training=learner.facts(interrupted=stop.is_set()),
                )  # fmt: skip
            tell_end(recorder, report, learner.further())
        group.wait()
    return Run(directory.path)
