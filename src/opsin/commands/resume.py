"""A training goes on where it was stopped or killed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from opsin.classical.classical_recipe import BACKBONE, ClassicalRecipe, FromBackbone
from opsin.commands.carry_out import begun_before, carry_out, watcher_of_run
from opsin.commands.import_recipe import ImportRecipe
from opsin.commands.installed import need_training, versions
from opsin.commands.resolve_recipe import ResolvedRecipe, with_balance
from opsin.commands.runs import Run
from opsin.core.arguments import checked
from opsin.core.artifacts.dataset_record import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.artifacts.run_status import RunStatus
from opsin.core.errors import RecipeError, RunError
from opsin.core.events import Watcher
from opsin.core.recipe import TRAINING_OPTIONS, Recipe
from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset
from opsin.data.run_images import Places, load_run_images, with_run_split
from opsin.models.resolve import changed
from opsin.training.process_group import ProcessGroup, joined, refuse_several

if TYPE_CHECKING:
    from opsin.commands.training_job import Start


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
            ``rate`` … The training then goes on in a new run that names this one as its parent.

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
        >>> from opsin.commands.train import train
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
        begun = begun_before(Path(run).parent, group)
        if begun is not None and begun.read(RunStatus).state == "done":
            return Run(begun.path)
        if begun is not None and begun.recipe.is_file():
            run, changes, name = begun.path, {}, None
        return go_on(run, data, changes, name=name, group=group, watcher=tell, began=began)


def go_on(
    run: str | os.PathLike[str],
    data: Dataset | Places,
    changes: Mapping[str, object] | None = None,
    *,
    name: str | None = None,
    group: ProcessGroup,
    watcher: Watcher,
    began: float,
) -> Run:
    """Train on in a run directory, or in a new one where something changes.

    Args:
        run: The run.
        data: Its images, or where they are now.
        changes: Options that are to be others from here on.
        name: What a new run is called (default: its parent's name).
        group: The processes that train it together.
        watcher: Receives the progress of the work.
        began: When the loading began (`time.perf_counter`).
    """
    changes = changes or {}
    parent = RunDirectory.open(run)
    asked = Run(parent.path).recipe
    if isinstance(asked, ClassicalRecipe) and asked.fine_tunes:
        refuse_several("fine-tuning")
        return _fine_tuning(parent, asked, data, changes, watcher=watcher, began=began)
    recipe = _network_of(parent)
    if group.writes:  # to ask is to hold the run for a moment
        _check_state(parent, recipe, changes, name)
    dataset = _images_of(parent, data, watcher)
    _tell_versions(recipe, watcher)
    if not changes:
        _tell_looks(parent, watcher)
    recipe = _changed(parent, recipe, changes, dataset) if changes else recipe
    start = _inherited(parent, recipe, watcher) if changes else _own(parent, recipe, watcher)
    decided = ResolvedRecipe(recipe, TRAINING_OPTIONS)
    title = name or _title(parent.path)

    def directory() -> RunDirectory:
        return RunDirectory.create(parent.path.parent, title) if changes else parent

    return carry_out(
        directory, dataset, decided, watcher=watcher, began=began, start=start, group=group
    )


def _network_of(parent: RunDirectory) -> Recipe:
    """Return the recipe of a network; what is fitted in one go has nothing to go on from."""
    recipe = Run(parent.path).recipe
    if isinstance(recipe, ImportRecipe):
        raise RunError(
            "a run that was trained here",
            f"{parent.path} was imported",
            f"Train a classifier that begins with it: opsin train SOURCE --from {parent.path}",
        )
    if isinstance(recipe, ClassicalRecipe):
        name = recipe.model.name
        how = f"--model {name}"
        if name == BACKBONE:  # which network, how prepared, is too much for a line
            how = f"--recipe {shlex.quote(str(parent.recipe))}"
        raise RunError(
            "the run of a network, which is trained in steps",
            f"{parent.path} is of the model {name}, which is fitted in one go",
            f"Train it anew: opsin train {' '.join(map(shlex.quote, recipe.data.sources))} " + how,
        )
    return recipe


def _fine_tuning(
    parent: RunDirectory,
    recipe: ClassicalRecipe,
    data: Dataset | Places,
    changes: Mapping[str, object],
    *,
    watcher: Watcher,
    began: float,
) -> Run:
    """Go on with the fine-tuning of a pretrained network, which must be where it was."""
    from opsin.backbones.backbone import open_backbone  # noqa: PLC0415  loads onnx
    from opsin.commands.fine_tune import check_fine_tuning  # noqa: PLC0415
    from opsin.commands.train_classical import carry_out_fitting  # noqa: PLC0415

    model = cast("FromBackbone", recipe.model)
    if changes or parent.state()[0] == "done":
        raise RunError(
            "a fine-tuning that was stopped or killed, to go on as it was begun",
            f"got {', '.join(sorted(changes))}" if changes else f"{parent.path} is done",
            "Train anew: opsin train … --fine-tune",
        )
    _check_state(parent, recipe, changes, None)
    backbone = open_backbone(model.backbone, prepare=model.prepare, at=model.at, watcher=watcher)
    then, now = recipe.versions.get("backbone"), f"sha256:{backbone.digest}"
    if then not in (None, now):
        raise RunError(
            f"the pretrained network that {parent.path.name} was begun with ({then})",
            f"{model.backbone} is another now ({now})",
            "Put the former one in its place, or train anew.",
        )
    check_fine_tuning(backbone)
    dataset = _images_of(parent, data, watcher)
    _tell_versions(recipe, watcher)
    _tell_looks(parent, watcher)
    start = _own(parent, recipe, watcher)
    return carry_out_fitting(
        lambda: parent, dataset, recipe, watcher=watcher, began=began, backbone=backbone,
        start=start,
    )  # fmt: skip


def _changed(
    parent: RunDirectory, recipe: Recipe, changes: Mapping[str, object], dataset: Dataset
) -> Recipe:
    """Return the recipe of a new run that goes on from another with some options changed."""
    recipe = with_balance(changed(recipe, **changes), dataset)
    return recipe.model_copy(update={"parent": parent.path.name})


def _check_state(
    parent: RunDirectory,
    recipe: Recipe | ClassicalRecipe,
    changes: Mapping[str, object],
    name: str | None,
) -> None:
    """Refuse to go on without PyTorch, with what is being trained, and with nothing to do."""
    need_training()
    state = "failed"
    with contextlib.suppress(RunError):  # a damaged status says nothing, and is written anew
        state, _ = parent.state()
    if state == "running":
        raise RunError("a run that was stopped", f"{parent.path} is still being trained", "Wait.")
    if state == "done" and not changes:
        raise RunError(
            "a run that was stopped or killed",
            f"{parent.path} is done",
            f"To train it further, say how far: opsin resume {parent.path} --epochs "
            f"{2 * cast('Recipe', recipe).training.epochs}",
        )
    if name is not None and not changes:
        raise RecipeError(
            "a name for a new run",
            f"nothing changes, so {parent.path.name} itself goes on",
            "Leave out --name, or say what is to change, such as --epochs.",
        )


def _own(parent: RunDirectory, recipe: Recipe | ClassicalRecipe, watcher: Watcher) -> Start | None:
    """Find a run's own newest checkpoint; ``None`` where it was killed before the first one."""
    from opsin.training.checkpoint import Checkpoints  # noqa: PLC0415

    checkpoints = Checkpoints(parent.checkpoints, watcher.note)
    found = checkpoints.newest()
    if found is not None:
        return found
    if checkpoints.steps():
        raise RunError("a whole checkpoint", f"{parent.path} has none left", "Train anew.")
    if recipe.parent is not None:
        raise RunError(
            f"the state that {parent.path.name} was to take over from {recipe.parent}",
            "it was ended before it had",
            f"Resume {recipe.parent} again, with the same changes.",
        )
    watcher.note("there is no checkpoint yet: the training begins again")
    return None


def _inherited(parent: RunDirectory, recipe: Recipe, watcher: Watcher) -> Start:
    """Find the state that a new run takes over from its parent.

    Weights, optimiser, random states and the place in the schedule are taken over; history, best
    epoch and checkpoints stay the parent's own.
    """
    from opsin.training.checkpoint import Checkpoints  # noqa: PLC0415

    found = Checkpoints(parent.checkpoints, watcher.note).newest()
    if found is None:
        raise RunError("a run with a checkpoint", f"{parent.path} has none", "Train anew.")
    tensors, place = found
    if place.epoch > recipe.training.epochs:
        raise RecipeError(
            f"more than the {place.epoch - 1} epochs that are trained already",
            f"got {recipe.training.epochs}",
            f"For example --epochs {2 * (place.epoch - 1)}.",
        )
    before = _network_of(parent).training.optimizer
    if recipe.training.optimizer != before:
        tensors = {key: t for key, t in tensors.items() if not key.startswith("optimizer.")}
    fresh = {"told": 0, "best": None, "last": None, "waited": 0, "seconds": 0.0, "rate_factor": 1.0}
    watcher.fact("Goes on", f"from {parent.path.name}, after {place.epoch - 1} epochs")
    return tensors, place.model_copy(update=fresh)


def _images_of(parent: RunDirectory, data: Dataset | Places, watcher: Watcher) -> Dataset:
    """See that the images are those of the run, in its order; return them in its parts."""
    dataset = data if isinstance(data, Dataset) else load_run_images(parent, data, watcher=watcher)
    if not parent.dataset.is_file() or not parent.split.is_file():
        return dataset  # killed before it had written them: it begins again
    fingerprint = parent.read(DatasetRecord).fingerprint
    digests = parent.load_arrays(parent.split)["digests"]
    same = np.array_equal(digests, short_digest(dataset.digests))
    if not same or fingerprint != dataset.fingerprint:
        raise RunError(
            "the images that the run was trained on, in the same order",
            f"those of {dataset.recipe.source} have changed since",
            f"To see how: opsin data --since {parent.path}. Then train anew: opsin train …",
        )
    return with_run_split(parent, dataset)


def _tell_versions(recipe: Recipe | ClassicalRecipe, watcher: Watcher) -> None:
    then, now = recipe.versions.get("torch"), versions()["torch"]
    if then is not None and then != now:
        watcher.note(f"begun with PyTorch {then}, going on with {now}: not bit for bit the same")


def _tell_looks(parent: RunDirectory, watcher: Watcher) -> None:
    with contextlib.suppress(RunError):  # it was stopped before it was evaluated
        if "test" in RunPredictions.read(parent).parts:
            watcher.note(
                f"{parent.path.name} was evaluated on its test images when it was stopped; at its "
                "end it is evaluated again, which is one more look at them"
            )


def _title(path: Path) -> str:
    """Return a run's name without its date and the number of its namesakes."""
    return re.sub(r"^\d{4}-\d\d-\d\d-|-\d+$", "", path.name) or path.name
