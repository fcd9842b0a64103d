"""A run that was begun before: found again, checked, and ready to go on."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from opsin.classical.classical_recipe import BACKBONE, ClassicalRecipe, FromBackbone
from opsin.commands.runs import ImportRecipe, Run
from opsin.commands.train.learner import Learner, need_training, versions
from opsin.commands.train.load import check_fine_tuning
from opsin.core.artifacts.records import DatasetRecord, RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.errors import RecipeError, RunError
from opsin.core.events import Watcher
from opsin.core.recipe import Recipe
from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset
from opsin.data.run_images import Places, load_run_images, with_run_split
from opsin.models.resolve import changed
from opsin.training.process_group import ProcessGroup, refuse_several

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone
    from opsin.commands.train.learner import Start


def begun_before(root: Path, group: ProcessGroup) -> tuple[RunDirectory | None, bool]:
    """The run of processes that torchrun restarted, and whether it is done."""
    if not group.restarted:
        return None, False
    begun: list[tuple[float, Path]] = []
    for file in root.glob(f"*/{RunStatus.FILE}") if group.writes else ():
        with contextlib.suppress(RunError):  # a damaged one
            status = RunStatus.read(file)
            if status.launch == group.launch:
                begun.append((status.started or 0.0, file.parent))
    path = group.first(max(begun)[1] if begun else None)
    if path is None:
        return None, False
    return RunDirectory(path), RunStatus.read(path / RunStatus.FILE).state == "done"


def learner_of(
    parent: RunDirectory,
    data: Dataset | Places,
    changes: Mapping[str, object] | None = None,
    *,
    name: str | None = None,
    group: ProcessGroup,
    watcher: Watcher,
) -> Learner:
    """The learner of a run directory, with the state that it goes on from."""
    changes, recipe, backbone = changes or {}, Run(parent.path).recipe, None
    if isinstance(recipe, ImportRecipe):
        raise RunError(
            f"{parent.path} was imported",
            f"Train a classifier that begins with it: opsin train SOURCE --from {parent.path}",
        )
    if isinstance(recipe, ClassicalRecipe):
        backbone = _same_backbone(parent, recipe, changes, watcher)
    if group.writes:  # asking holds the run for a moment
        _check_state(parent, recipe, changes, name)
    from opsin.commands.train.fine_tune import FineTuneLearner  # noqa: PLC0415  needs PyTorch
    from opsin.commands.train.network import NetworkLearner, balanced  # noqa: PLC0415

    dataset = _images_of(parent, data, watcher)
    then, now = recipe.versions.get("torch"), versions()["torch"]
    if then is not None and then != now:
        watcher.note(f"begun with PyTorch {then}, going on with {now}: not bit for bit the same")
    if changes and isinstance(recipe, Recipe):
        other = balanced(changed(recipe, **changes), dataset)
        other = other.model_copy(update={"parent": parent.path.name})
        learner = NetworkLearner(dataset, other)
        learner.start = _inherited_state(parent, recipe, other, watcher)
        return learner
    with contextlib.suppress(RunError):  # it was stopped before its evaluation
        if "test" in RunPredictions.read(parent).parts:
            watcher.note(
                f"{parent.path.name} was evaluated on its test images when it was stopped; at its "
                "end it is evaluated again, which is one more look at them"
            )
    begun: Learner = (
        NetworkLearner(dataset, recipe)
        if isinstance(recipe, Recipe)
        else FineTuneLearner(dataset, recipe, backbone)
    )
    begun.start = _own_state(parent, recipe, watcher)
    return begun


def _same_backbone(
    parent: RunDirectory, recipe: ClassicalRecipe, changes: Mapping[str, object], watcher: Watcher
) -> Backbone:
    from opsin.backbones.backbone import open_backbone  # noqa: PLC0415  loads onnx

    if not recipe.fine_tunes:
        how = f" --model {recipe.model.name}"
        if recipe.model.name == BACKBONE:  # network and preparation are too much for a line
            how = f" --recipe {shlex.quote(str(parent.recipe))}"
        raise RunError(
            f"{parent.path} is of the model {recipe.model.name}, which is fitted in one go",
            f"Train it anew: opsin train {shlex.join(recipe.data.sources)}{how}",
        )
    refuse_several("fine-tuning")
    model = cast("FromBackbone", recipe.model)
    if changes or parent.state()[0] == "done":
        why = f"{parent.path} is done"
        if changes:
            why = f"A fine-tuning goes on as it was begun, without {', '.join(sorted(changes))}"
        raise RunError(why, "Train anew: opsin train … --fine-tune")
    need_training()
    backbone = open_backbone(model.backbone, prepare=model.prepare, at=model.at, watcher=watcher)
    then, now = recipe.versions.get("backbone"), f"sha256:{backbone.digest}"
    if then not in (None, now):
        raise RunError(
            f"{model.backbone} is another network now ({now}) than {parent.path.name} was begun "
            f"with ({then})",
            "Put the former one in its place, or train anew.",
        )
    check_fine_tuning(backbone)
    return backbone


def _check_state(
    parent: RunDirectory,
    recipe: Recipe | ClassicalRecipe,
    changes: Mapping[str, object],
    name: str | None,
) -> None:
    need_training()
    state = "failed"
    with contextlib.suppress(RunError):  # a damaged status is written anew
        state, _ = parent.state()
    if state == "running":
        raise RunError(f"{parent.path} is still being trained")
    if state == "done" and not changes:
        raise RunError(
            f"{parent.path} is done",
            f"To train it further, say how far: opsin resume {parent.path} --epochs "
            f"{2 * cast('Recipe', recipe).training.epochs}",
        )
    if name is not None and not changes:
        raise RecipeError(f"--name is for a new run; without changes {parent.path.name} goes on")


def _own_state(
    parent: RunDirectory, recipe: Recipe | ClassicalRecipe, watcher: Watcher
) -> Start | None:
    """A run's newest checkpoint; ``None`` if it was killed before the first one."""
    from opsin.training.checkpoint import Checkpoints  # noqa: PLC0415

    checkpoints = Checkpoints(parent.checkpoints, watcher.note)
    if (state := checkpoints.newest()) is not None:
        return state
    if checkpoints.steps():
        raise RunError(f"{parent.path} has no whole checkpoint left", "Train anew.")
    if recipe.parent is not None:
        raise RunError(
            f"{parent.path.name} was ended before it had taken over the state of {recipe.parent}",
            f"Resume {recipe.parent} again, with the same changes.",
        )
    watcher.note("there is no checkpoint yet: the training begins again")
    return None


def _inherited_state(
    parent: RunDirectory, before: Recipe, recipe: Recipe, watcher: Watcher
) -> Start:
    from opsin.training.checkpoint import Checkpoints, TrainingState  # noqa: PLC0415

    newest = Checkpoints(parent.checkpoints, watcher.note).newest()
    if newest is None:
        raise RunError(f"{parent.path} has no checkpoint", "Train anew.")
    tensors, state = newest
    done = state.epoch - 1
    if done >= recipe.training.epochs:
        raise RecipeError(
            f"{done} epochs are trained already, and --epochs is {recipe.training.epochs}",
            f"Give more, such as --epochs {2 * done}.",
        )
    if recipe.training.optimizer != before.training.optimizer:
        tensors = {key: t for key, t in tensors.items() if not key.startswith("optimizer.")}
    of_run = {"epochs_logged", "epochs_since_best", "best", "last", "seconds", "rate_factor"}
    fresh = TrainingState().model_dump(include=of_run, by_alias=False)
    watcher.fact("Goes on", f"from {parent.path.name}, after {done} epochs")
    return tensors, state.model_copy(update=fresh)


def _images_of(parent: RunDirectory, data: Dataset | Places, watcher: Watcher) -> Dataset:
    """The images of the run, which must be the same in the same order, with its split."""
    dataset = data if isinstance(data, Dataset) else load_run_images(parent, data, watcher=watcher)
    if not parent.dataset.is_file() or not parent.split.is_file():
        return dataset  # killed before it had written them: it begins again
    fingerprint = parent.read(DatasetRecord).fingerprint
    digests = parent.load_arrays(parent.split)["digests"]
    same = np.array_equal(digests, short_digest(dataset.digests))
    if not same or fingerprint != dataset.fingerprint:
        raise RunError(
            f"The images of {dataset.recipe.source} have changed since",
            "Restore them, or train anew: opsin train …",
        )
    return with_run_split(parent, dataset)
