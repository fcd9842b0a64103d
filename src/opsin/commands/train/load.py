"""What is trained on what: the images, and the kind of model that they get."""

from __future__ import annotations

import functools
import importlib
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from opsin.backbones.named_backbones import NAMED
from opsin.classical.classical_recipe import BACKBONE
from opsin.commands.backbones import measured_backbone
from opsin.commands.train.learner import Loaded, can_train_networks, need_training
from opsin.commands.train.trial import known_trial, solved_by_gradients, try_backbone, views_of
from opsin.commands.train.words import NOT_HERE, WITHOUT_PYTORCH
from opsin.core.errors import MissingExtraError, ModelFileError, RecipeError
from opsin.core.events import Watcher
from opsin.core.format import seconds_of
from opsin.core.recipe import DATA_OPTIONS, DataRecipe
from opsin.data.dataset import Dataset, load
from opsin.data.split import Split
from opsin.training.process_group import Launch

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone

# Images up to which heads are judged by all of them: choosing one anew for each fold takes a
# while (`python -m benchmarks.pretrained`).
_FEW: Final = 2_000
# Options by which a user asks for parts.
_OF_PARTS: Final = ("test", "test_fraction", "val_fraction", "fold", "parts_of")
# Seconds that the features of all images may take: for the better network, and for the quicker;
# and the share of a budget that these may take.
_SECONDS: Final = {"efficientnet-lite2": 120.0, "efficientnet-lite0": 600.0}
_SHARE: Final = 0.5
# How many times too slow a network is measured again: the machine may have been busy.
_BUSY: Final = 20
_FROZEN: Final = "Leave --fine-tune out: frozen features still work, and need no PyTorch."


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
    """What is to be trained on what, as far as it is settled.

    What remains in ``options`` is of the model and the training.
    """
    model = model_asked(model, options)
    by_all = by_all and all(options.get(name) is None for name in _OF_PARTS)
    launch = Launch.current()
    single = launch is None or launch.world == 1  # processes that train together need a training
    is_open = single and leaves_open(model, options) and not isinstance(data, Dataset)
    if is_open and not _networks_are_here():
        watcher.note(NOT_HERE)
        is_open = False
    if not is_open:
        need_training(model)
    backbone = None
    if model == BACKBONE:
        backbone = open_given(data, options, offline=offline, watcher=watcher)
    loaded = Loaded(model, _dataset(data, options, watcher), backbone, budget)
    if is_open:
        loaded = _perhaps_pretrained(data, loaded, options, planned=planned, watcher=watcher)
    for name in DATA_OPTIONS:
        options.pop(name, None)
    if loaded.backbone is None:
        need_training(model)
    elif by_all:
        loaded = replace(loaded, dataset=_judged_by_all(loaded.dataset, options))
    return loaded


def model_asked(model: str | None, options: Mapping[str, Any]) -> str | None:
    """The name of the model: a pretrained network that is given asks for a head on it."""
    if options.get("backbone") is None:
        if model == BACKBONE or options.get("fine_tune"):
            raise RecipeError("No pretrained network is given", "Name one: --from FILE.")
        return model
    if model not in (None, "auto", BACKBONE):
        raise RecipeError(f"Both --from {options['backbone']} and --model {model} are given")
    return BACKBONE


def leaves_open(model: str | None, options: Mapping[str, Any]) -> bool:
    """Whether a request would fit a pretrained network as well: it has no wish for another."""
    wishes = {name for name, value in options.items() if value is not None}
    return model in (None, "auto") and wishes <= {*DATA_OPTIONS, "seed", "class_mix"}


def _networks_are_here() -> bool:
    try:
        importlib.import_module("onnx")
    except ImportError:
        return False
    return all(NAMED[name].path is not None for name in _SECONDS)


def open_given(
    data: object, options: dict[str, Any], *, offline: bool, watcher: Watcher
) -> Backbone:
    """Open the pretrained network, and fill in the options by which images are prepared for it."""
    from opsin.backbones.backbone import open_backbone  # noqa: PLC0415  loads onnx
    from opsin.backbones.feature_graph import usual_preparation  # noqa: PLC0415

    backbone = open_backbone(
        options["backbone"], prepare=options.get("prepare"), at=options.get("at"),
        offline=offline, watcher=watcher,
    )  # fmt: skip
    if options.get("fine_tune"):
        check_fine_tuning(backbone)
    options["backbone"] = str(backbone.where or os.fspath(options["backbone"]))
    if not isinstance(data, Dataset):
        usual = usual_preparation(backbone)
        size = (usual.height, usual.width)
        usual_options = {"size": size, "channels": usual.channels, "resize": usual.resize}
        wishes = {name: value for name, value in options.items() if value is not None}
        options.update(usual_options | wishes)
    return backbone


def check_fine_tuning(backbone: Backbone) -> None:
    """See that a network can be fine-tuned, before anything is computed."""
    try:
        from opsin.models.onnx_network import check_gradients  # noqa: PLC0415  needs PyTorch
    except MissingExtraError as error:
        missing = MissingExtraError("fine-tuning", "train")
        missing.advice = f"{error.advice} {_FROZEN}"
        raise missing from error
    from opsin.backbones.backbone import trainable  # noqa: PLC0415

    try:
        check_gradients(trainable(backbone).graph.leading_to(backbone.at[:1]))
    except ModelFileError as error:
        raise ModelFileError(f"{backbone.name}: {error.message}", _FROZEN) from error


def network_in_time(dataset: Dataset, budget: float | None = None) -> str | None:
    """The best network in the box whose features of all images are computed in time."""
    passes, quick = len(dataset) * len(views_of(dataset, len(dataset.split.train))), None
    for name, most in _SECONDS.items():
        seconds = passes * measured_backbone(name).milliseconds / 1000
        if most < seconds < _BUSY * most:
            seconds = passes * measured_backbone(name, anew=True).milliseconds / 1000
        if seconds <= most:
            quick = name
            if budget is None or seconds <= _SHARE * budget:
                return name
    return quick


def _perhaps_pretrained(
    data: object, loaded: Loaded, options: dict[str, Any], *, planned: bool, watcher: Watcher
) -> Loaded:
    """Take a pretrained network of the box, unless training from scratch turns out better."""
    seed, dataset = options.get("seed") or 0, loaded.dataset
    seconds = None if loaded.budget is None else seconds_of(loaded.budget)
    can_train = can_train_networks()
    if can_train and (simple := solved_by_gradients(dataset, seed)) is not None:
        return replace(loaded, reasons={"Trial": simple})
    network = network_in_time(dataset, seconds)
    if network is None:
        words = f"none: the features of {len(dataset):,} images would take too long here"
        return replace(loaded, reasons={"Backbone": words})
    for_backbone = {**options, "backbone": network}
    backbone = open_given(data, for_backbone, offline=True, watcher=watcher)
    photographs = functools.cache(lambda: _dataset(data, for_backbone, watcher))
    began, trial = time.perf_counter(), None
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
    options.clear()
    options.update(for_backbone)
    tunes = loaded.budget is not None and can_train and not (trial and trial.stopped)
    if tunes:
        options["fine_tune"] = True
    elif loaded.budget is not None and not can_train:
        watcher.note(WITHOUT_PYTORCH)
    return replace(
        loaded,
        model=BACKBONE,
        dataset=photographs(),
        backbone=backbone,
        budget=loaded.budget if tunes else None,
        reasons=reasons,
        is_open=trial is None and can_train,
    )


def _judged_by_all(dataset: Dataset, options: Mapping[str, Any]) -> Dataset:
    """Let a head on frozen features learn from all images, and be judged by all of them."""
    from opsin.evaluation.out_of_fold import folds_of  # noqa: PLC0415  loads scikit-learn

    recipe, usual = dataset.recipe, DataRecipe.model_fields
    asked = any(getattr(recipe, name) != usual[name].default for name in _OF_PARTS)
    if options.get("fine_tune") or dataset.given_parts or asked or len(dataset) > _FEW:
        return dataset
    none = np.zeros(0, np.int64)
    every = Split(np.arange(len(dataset)), none, none)
    # Without folds, as where a class has but one group, parts have to do.
    return replace(dataset, split=every) if folds_of(dataset.labels, dataset.units, 0) else dataset


def _dataset(data: object, options: Mapping[str, Any], watcher: Watcher) -> Dataset:
    asked = {key: options[key] for key in DATA_OPTIONS if key in options}
    if not isinstance(data, Dataset):
        sources = data if isinstance(data, list | tuple) else [data]
        return load(*sources, watcher=watcher, **asked)
    if asked:
        raise RecipeError(
            f"The dataset is loaded already, and {', '.join(asked)} would change how",
            "Give these to opsin.load.",
        )
    return data
