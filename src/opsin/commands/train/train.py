"""A training from top to bottom: load, decide, fit, export, calibrate, test, report."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from opsin.classical.classical_recipe import FITTED
from opsin.commands.runs import Run
from opsin.commands.train.add_to import extend
from opsin.commands.train.finish import finish, write_request
from opsin.commands.train.learner import Learner, Loaded
from opsin.commands.train.load import TRIAL_SECONDS, load_for, model_asked
from opsin.commands.train.recorder import graceful_interrupt, recorded, watcher_of_run
from opsin.commands.train.resume import begun_before, learner_of
from opsin.commands.train.words import TRIED_LATER, tell_end, tell_left_out, tell_limits, tell_start
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import SILENT, Watcher, WatcherGroup
from opsin.core.format import about
from opsin.core.storage import check_writable
from opsin.data.audit import audit
from opsin.data.dataset import Dataset
from opsin.data.run_images import Places
from opsin.report.terminal import for_people
from opsin.report.training_plan import Plan
from opsin.training.process_group import ALONE, ProcessGroup, joined, refuse_several


@checked
def train(
    data: object,
    *,
    model: str | None = None,
    budget: str | float | None = None,
    add_to: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    watcher: Watcher | None = None,
    observers: Sequence[Watcher] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
    offline: bool = False,
    **options: Any,
) -> Run:
    """Train a classifier and evaluate the exported file.

    The first Ctrl-C ends the training; the run is then finished with the best epoch so far, and
    `resume` can continue it. Processes started by ``torchrun`` train one network together and
    return the same run; if they are restarted, they continue it.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        model: ``mlp``, ``cnn`` or ``resnet``; ``auto`` (default) takes a pretrained network, or
            chooses network, size and recipe by the images and the machine. Without layers and
            without PyTorch: ``logistic``, ``forest``, ``knn``, ``svm``.
        budget: Time for the training, in seconds or as ``10m``. A pretrained network taken by
            ``auto`` is fine-tuned in it; otherwise the epochs are chosen to fit it, after a short
            measurement.
        add_to: A finished run: ``data`` are images of new classes, or more of known ones, and join
            its own. These keep their parts or folds, so that nothing judged is learnt from; heads
            are fitted again, and a trained network goes on from its weights with all images.
            ``report.added`` compares both on the old images.
        runs: Folder for run directories.
        name: Name of the run directory (default: source and model).
        watcher: Receives the progress of the work (default: a progress display on standard error).
        observers: Receive the same events; one that raises an error causes a warning only.
        track: Trackers that the run is logged to: ``tensorboard``, ``mlflow``, ``wandb``, or
            several, separated by commas. One that fails causes a warning only.
        quiet: Show nothing.
        offline: Use only pretrained networks that are on this machine.
        **options: Fields of the recipe: ``epochs``, ``learning_rate``, ``seed`` … (for models
            without layers those of `opsin.classical.classical_recipe`), and of its data part:
            ``classes``, ``size`` …

    Returns:
        The finished run. If the loss diverged for good, ``report.training.diverged`` says so, and
        the file is that of the best epoch before.

    Raises:
        MissingExtraError: PyTorch, or the package of a tracker, is not installed.
        SourceError: The source is missing, damaged, or no classifier can be made from it.
        RecipeError: An option has an impossible value.
        ParityError: The exported file and the network answer differently.
        StorageError: ``runs`` cannot be written, or the disk is full.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> run = train("digits", model="mlp", epochs=2, runs=folder, quiet=True)
        >>> run.accuracy > 0.5
        True
    """
    check_writable(Path(runs) / "run")  # before anything is read
    began = time.perf_counter()
    with joined() as group:
        watcher = watcher_of_run(watcher, observers, track, quiet=quiet, group=group)
        begun, done = begun_before(Path(runs), group)
        if begun is not None and done:
            return Run(begun.path)
        if add_to is not None or model_asked(model, options) in FITTED:
            refuse_several("a model that is not a network trained from the start")
        if add_to is not None:
            data, model = extend(add_to, data, model, options, watcher)
        loaded = load_for(data, model, options, budget=budget, offline=offline, watcher=watcher)
        goes_on = options.get("fine_tune") or loaded.model not in FITTED
        if begun is not None and begun.recipe.is_file() and goes_on:
            learner = learner_of(begun, loaded.dataset, group=group, watcher=watcher)
        else:
            learner = decide(loaded, options, watcher)
            if add_to is not None:
                update = {"added_to": os.fspath(add_to)}
                learner.recipe = learner.recipe.model_copy(update=update)
        title = name or f"{loaded.dataset.recipe.title}-{learner.recipe.model.name}"
        where = begun or (Path(runs), title)
        return run_training(learner, where, watcher=watcher, began=began, group=group)


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
    """Continue a training from its newest whole checkpoint; the result is the same bit for bit.

    Args:
        run: A run that was stopped or killed, or has failed; with ``changes``, a finished one too.
        data: Its images, if they came from arrays in memory, or where they are now, if they were
            moved (default: read from its sources). They must be the same.
        name: Name of a new run (default: its parent's).
        watcher: Receives the progress of the work, as for `opsin.train`.
        observers: Receive the same events.
        track: As for `opsin.train`. A run that was tracked is continued there.
        quiet: Show nothing.
        **changes: Options that change: ``epochs``, ``learning_rate`` … The training then goes on
            in a new run that names this one as its parent.

    Returns:
        The finished run: the same one, or the new one.

    Raises:
        RunError: Another process works on the run, it has no checkpoint, it is done, or its images
            are in another order or have another split.
        MovedError: The images are gone, and ``data`` does not say where to.
        SourceError: The images have changed since.
        RecipeError: An option cannot be changed, or nothing is left to train.

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
        watcher = watcher_of_run(watcher, observers, track, quiet=quiet, group=group)
        changes = {key: value for key, value in changes.items() if value is not None}
        begun, done = begun_before(Path(run).parent, group)
        if begun is not None and done:
            return Run(begun.path)
        if begun is not None and begun.recipe.is_file():
            run, changes, name = begun.path, {}, None
        parent = RunDirectory.open(run)
        learner = learner_of(parent, data, changes, name=name, group=group, watcher=watcher)
        # Without its date and the number of its namesakes.
        title = name or re.sub(r"^\d{4}-\d\d-\d\d-|-\d+$", "", parent.path.name)
        where = (parent.path.parent, title or parent.path.name) if changes else parent
        return run_training(learner, where, watcher=watcher, began=began, group=group)


@checked
def plan(
    data: object,
    *,
    model: str | None = None,
    budget: str | float | None = None,
    add_to: str | os.PathLike[str] | None = None,
    watcher: Watcher | None = None,
    quiet: bool = False,
    offline: bool = False,
    **options: Any,
) -> Plan:
    """Describe what `train` would do with the same arguments, without beginning a run.

    Images are read and cached, as by `train`, whose arguments these are; with ``budget``, an epoch
    is measured for about a second.

    Raises:
        OpsinError: As from `train`, for everything that it refuses before it begins.

    Example:
        >>> planned = plan("digits", model="mlp", epochs=3, quiet=True)
        >>> planned.parameters, planned.recipe.training.epochs
        (9610, 3)
    """
    refuse_several("a plan")
    notes = _Notes()
    watcher = WatcherGroup(watcher or for_people(quiet=quiet), notes)
    if add_to is not None:
        data, model = extend(add_to, data, model, options, watcher)
    loaded = load_for(
        data, model, options, budget=budget, offline=offline, watcher=watcher, planned=True
    )
    dataset = loaded.dataset
    tell_left_out(watcher, dataset)
    tell_limits(watcher, dataset)
    learner = decide(loaded, options, watcher)
    # Without the audit, which changes nothing and would take longer than all else.
    with learner.ready():
        planned = learner.planned()
        if loaded.scratch is not None:
            learner.decided(Trial=_tried_later(loaded, options, watcher))
        images = {part: len(dataset.split.rows(part)) for part in ("train", "val", "test")}
        images["train"] = len(getattr(learner, "rows", dataset.split.train))
        return Plan.model_validate(
            {
                "recipe": learner.recipe,
                "summary": dataset.summary(),
                "images": images,
                "layers": tuple(learner.layers),
                "device": learner.device_name,
                "notes": tuple(notes.texts),
                **planned,
            }
        )


def _tried_later(loaded: Loaded, options: dict[str, Any], watcher: Watcher) -> str:
    """What a trial would cost, and the whole training that it may lead to."""
    common = {name: value for name, value in options.items() if name in ("seed", "class_mix")}
    scratch = Loaded(None, cast("Dataset", loaded.scratch), budget=loaded.budget)
    network = decide(scratch, common, watcher)
    with network.ready():
        full = about(cast("float", network.planned()["seconds"]))
        most = "at most " if network.training.patience else ""
    return TRIED_LATER.format(seconds=TRIAL_SECONDS, most=most, full=full)


class _Notes(Watcher):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def decide(loaded: Loaded, options: dict[str, Any], watcher: Watcher) -> Learner:
    """The learner for what was loaded, with everything decided that the caller left open."""
    if options.get("fine_tune"):
        from opsin.commands.train.fine_tune import FineTuneLearner  # noqa: PLC0415  PyTorch

        return FineTuneLearner.decide(loaded, options)
    if loaded.model in FITTED:
        from opsin.commands.train.head import HeadLearner  # noqa: PLC0415  scikit-learn

        return HeadLearner.decide(loaded, options)
    from opsin.commands.train.network import NetworkLearner  # noqa: PLC0415  PyTorch

    return NetworkLearner.decide(loaded, options, watcher)


def run_training(
    learner: Learner,
    where: RunDirectory | tuple[Path, str],
    *,
    watcher: Watcher,
    began: float,
    group: ProcessGroup = ALONE,
) -> Run:
    """Train in a run, or one made below a folder once everything else is known to be usable."""
    audited = audit(learner.dataset, watcher=watcher)
    learner.began = learner.began or began
    with learner.ready(group):
        if not group.writes:  # another process writes the run
            learner.directory, learner.watcher = RunDirectory(group.first(Path())), SILENT
            with graceful_interrupt() as learner.stop:
                learner.fit()
            group.wait()
            return Run(learner.directory.path)
        directory = where if isinstance(where, RunDirectory) else RunDirectory.create(*where)
        group.first(directory.path)
        with recorded(directory, watcher, group.launch) as recorder:
            learner.directory, learner.watcher = directory, recorder
            write_request(learner, audited)
            recorder.run_started(directory.path)
            tell_start(learner, audited)
            seconds = {"load": time.perf_counter() - began}
            # To the end: once trained, a Ctrl-C would only lose what is nearly done.
            with graceful_interrupt() as learner.stop:
                trained = learner.fit()
                recorder.outcome = learner.outcome
                at = time.perf_counter()
                recorder.doing("the export")
                exported = learner.export()
                if trained is not None:
                    seconds |= {"train": trained, "export": time.perf_counter() - at}
                report = finish(learner, exported, audited, seconds)
            tell_end(recorder, report)
            if (further := learner.further()) is not None:
                recorder.fact("Further", further)
        group.wait()
    return Run(directory.path)
