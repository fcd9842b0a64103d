"""What is trained on what: the images, and a pretrained network or one trained from scratch."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from opsin._version import __version__
from opsin.backbones.named_backbones import NAMED
from opsin.classical.classical_recipe import BACKBONE
from opsin.commands.backbones import measured_backbone
from opsin.commands.train.learner import Loaded, are_installed, can_train_networks, need_training
from opsin.commands.train.recorder import graceful_interrupt
from opsin.commands.train.words import NOT_HERE, WITHOUT_PYTORCH
from opsin.core.arrays import Bools, Floats, Ints
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import MissingExtraError, ModelFileError, RecipeError, RunError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import seconds_of
from opsin.core.recipe import DATA_OPTIONS, DataRecipe
from opsin.core.storage import write_json
from opsin.data.cache import cache_root
from opsin.data.dataset import Dataset, load
from opsin.data.lazy_images import subset
from opsin.data.split import Split
from opsin.training.process_group import Launch

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone
    from opsin.backbones.feature_graph import View
    from opsin.evaluation.out_of_fold import Fold
    from opsin.training.trainer import Outcome

#: Training images from which on a head gets one view of each and the network's last features
#: only: more images say more than more views and depths.
MANY_IMAGES: Final = 20_000
#: Seconds of the training from scratch that pretrained features are compared with.
TRIAL_SECONDS: Final = 24.0
# Images up to which heads are judged by all of them: choosing one anew for each fold takes a
# while (`python -m benchmarks.pretrained`).
_FEW: Final = 2_000
# Options by which a user asks for parts.
_OF_PARTS: Final = ("test", "test_fraction", "val_fraction", "fold", "parts_of")
# Seconds that the features of all images may take, of the better network and of the quicker one;
# and their share of a budget.
_SECONDS: Final = {"efficientnet-lite2": 120.0, "efficientnet-lite0": 600.0}
_SHARE: Final = 0.5
# How many times too slow a network is measured again: the machine may have been busy.
_BUSY: Final = 20
# Training images that features are tried on, each class at its share; held-out images that are
# needed to tell the two apart.
_TRIED, _ENOUGH = 1_500, 30
# Ratio of errors to those with features from which gradients are so far behind that no training is
# tried: 2.35 and more with 25 photographs of a class or more, at most 1.8 where features were worse
# than training from scratch.
_FAR_BEHIND: Final = 2.2
# Side that images are averaged down to in the trial: more epochs say more than details.
_SIDE: Final = 32
# Accuracy of gradients that leaves nothing for features to add, but for photographs.
_SOLVED: Final = 0.97
#: The least shorter side of a photograph.
PHOTOGRAPH: Final = 64
_NO_TIME: Final = "there was no time to compare pretrained features with a training from scratch"
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
    """Load the images and settle the kind of model; ``options`` keeps those of the training."""
    model = model_asked(model, options)
    by_all = by_all and all(options.get(name) is None for name in _OF_PARTS)
    launch = Launch.current()
    single = launch is None or launch.world == 1  # processes that train together train a network
    is_open = single and leaves_open(model, options) and not isinstance(data, Dataset)
    if is_open and not _networks_are_here():
        so = ", so one is trained from scratch" if can_train_networks() else ""
        watcher.note(NOT_HERE.format(so=so))
        is_open = False
    if not is_open:
        need_training(model)
    backbone = None
    if model == BACKBONE:
        backbone = open_given(data, options, offline=offline, watcher=watcher)
    seconds = None if budget is None else seconds_of(budget)
    loaded = Loaded(model, _dataset(data, options, watcher), backbone, seconds)
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
    """The name of the model; with a pretrained network, that of a head on it."""
    if options.get("backbone") is None:
        if model == BACKBONE or options.get("fine_tune"):
            raise RecipeError("No pretrained network is given", "Name one: --from FILE.")
        return model
    if model not in (None, "auto", BACKBONE):
        raise RecipeError(f"Both --from {options['backbone']} and --model {model} are given")
    return BACKBONE


def leaves_open(model: str | None, options: Mapping[str, Any]) -> bool:
    """Whether a request leaves room for a pretrained network."""
    wishes = {name for name, value in options.items() if value is not None}
    return model in (None, "auto") and wishes <= {*DATA_OPTIONS, "seed", "class_mix"}


def _networks_are_here() -> bool:
    return are_installed("onnx") and any(NAMED[name].path is not None for name in _SECONDS)


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


def _judged_by_all(dataset: Dataset, options: Mapping[str, Any]) -> Dataset:
    """Let a head on frozen features learn from all images, and be judged by all of them."""
    from opsin.evaluation.out_of_fold import folds_of  # noqa: PLC0415  loads scikit-learn

    recipe, usual = dataset.recipe, DataRecipe.model_fields
    asked = any(getattr(recipe, name) != usual[name].default for name in _OF_PARTS)
    if options.get("fine_tune") or dataset.given_parts or asked or len(dataset) > _FEW:
        return dataset
    if not folds_of(dataset.labels, dataset.units, 0):  # as where a class has but one group
        return dataset
    none = np.zeros(0, np.int64)
    return replace(dataset, split=Split(np.arange(len(dataset)), none, none))


def open_given(
    data: object, options: dict[str, Any], *, offline: bool, watcher: Watcher
) -> Backbone:
    """Open the pretrained network, and fill in the options by which images are prepared for it."""
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


def _perhaps_pretrained(
    data: object, loaded: Loaded, options: dict[str, Any], *, planned: bool, watcher: Watcher
) -> Loaded:
    """Take a pretrained network of the box, unless training from scratch turns out better."""
    seed, dataset, seconds = options.get("seed") or 0, loaded.dataset, loaded.budget
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
        trial = _known_trial(dataset, backbone, seed)
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
        scratch=dataset if trial is None and can_train else None,
    )


def network_in_time(dataset: Dataset, budget: float | None = None) -> str | None:
    """The best network in the box whose features of all images are computed in time."""
    passes, quick = len(dataset) * len(views_of(dataset, len(dataset.split.train))), None
    here = {name: most for name, most in _SECONDS.items() if NAMED[name].path is not None}
    for name, most in here.items():
        seconds = passes * measured_backbone(name).milliseconds / 1000
        if most < seconds < _BUSY * most:
            seconds = passes * measured_backbone(name, anew=True).milliseconds / 1000
        if seconds <= most:
            quick = name
            if budget is None or seconds <= _SHARE * budget:
                return name
    return quick


def views_of(dataset: Dataset, learnt: int) -> tuple[View, ...]:
    """The views of each image for a head that learns from so many of them."""
    if learnt > MANY_IMAGES or not dataset.mirrored:  # mirrored, they would mean something else
        return ("whole",)
    return ("whole", "mirrored")


class BackboneTrial(BaseModel):
    """Frozen features beside a network trained from scratch, on training images alone."""

    model_config = ConfigDict(frozen=True)

    scratch: bool = False  # whether training from scratch is better
    words: str = ""  # the accuracy of both
    stopped: bool = False  # whether Ctrl-C ended it, so that features are taken


def solved_by_gradients(dataset: Dataset, seed: int) -> str | None:
    """Words for small images that gradients alone have nearly all right; else ``None``."""
    if max(dataset.images.shape[1:3]) >= PHOTOGRAPH or len(dataset.split.train) < _TRIED / 3:
        return None
    rows, folds = _tried(dataset, seed)
    accuracy = _accuracy_of_gradients(dataset, rows, folds) if folds else 0.0
    if accuracy < _SOLVED:
        return None
    return (
        f"histograms of gradients were right on {accuracy:.0%} of {len(rows):,} training images, "
        "so pretrained features could add little: a network is trained from scratch"
    )


def try_backbone(
    dataset: Dataset,
    photographs: Callable[[], Dataset],
    backbone: Backbone,
    *,
    seed: int,
    budget: float | None = None,
    watcher: Watcher = SILENT,
) -> BackboneTrial:
    """Compare a head on frozen features with a network trained from scratch for half a minute."""
    from opsin.backbones.features import compute  # noqa: PLC0415  loads onnx
    from opsin.classical.heads import rooted  # noqa: PLC0415  loads scikit-learn

    known = _known_trial(dataset, backbone, seed)
    if known is not None:
        return known
    rows, folds = _tried(dataset, seed)
    prepared = photographs()
    if not np.array_equal(dataset.source_digests, prepared.source_digests):
        return BackboneTrial(words="not all images can be read in both sizes")
    features = compute(
        backbone,
        subset(prepared.images, rows),
        prepared.digests[rows],
        views_of(prepared, len(prepared.split.train)),
        watcher=watcher,
    )
    points = rooted(features, backbone.units)
    right = _right(points, prepared.labels[rows], folds)
    by_gradients = _accuracy_of_gradients(dataset, rows, folds)
    if 1 - by_gradients >= _FAR_BEHIND * (1 - right.mean()):
        trial = BackboneTrial(
            words=f"pretrained features were right on {right.mean():.0%} of {len(rows):,} "
            f"training images, histograms of gradients on {by_gradients:.0%}"
        )
    elif budget is not None and budget < 5 * TRIAL_SECONDS:
        return BackboneTrial(words=_NO_TIME)
    else:
        train, test = folds[0]
        split = Split(rows[train], rows[test], test[:0])
        trial = _beside_training(dataset, split, float(right[test].mean()), watcher)
        if trial.stopped or trial.words == _NO_TIME:
            return trial
    with contextlib.suppress(StorageError):  # then it is tried again the next time
        write_json(_trial_file(dataset, backbone, seed), trial.model_dump(mode="json"))
    return trial


def _known_trial(dataset: Dataset, backbone: Backbone, seed: int) -> BackboneTrial | None:
    """The result of an earlier trial; with too few images for one, features are taken."""
    with contextlib.suppress(OSError, ValidationError):
        return BackboneTrial.model_validate_json(_trial_file(dataset, backbone, seed).read_bytes())
    _, folds = _tried(dataset, seed)
    return None if folds and len(folds[0][1]) >= _ENOUGH else BackboneTrial()


def _trial_file(dataset: Dataset, backbone: Backbone, seed: int) -> Path:
    shape = dataset.images.shape[1:]
    asked = f"{__version__} {dataset.fingerprint} {shape} {backbone.digest} {seed}"
    train = dataset.digests[dataset.split.train].tobytes()
    name = hashlib.sha256(asked.encode() + train).hexdigest()[:32]
    return cache_root() / "trials" / f"{name}.json"


def _tried(dataset: Dataset, seed: int) -> tuple[Ints, list[Fold]]:
    from opsin.classical.fit import drawn  # noqa: PLC0415  stays quick to import
    from opsin.evaluation.out_of_fold import folds_of  # noqa: PLC0415  loads scikit-learn

    train = dataset.split.train
    rows = drawn(train, dataset.labels[train], _TRIED, seed)
    return rows, folds_of(dataset.labels[rows], dataset.units[rows], seed)


def _accuracy_of_gradients(dataset: Dataset, rows: Ints, folds: Sequence[Fold]) -> float:
    from opsin.classical.fit import gradient_histograms  # noqa: PLC0415

    points = gradient_histograms(dataset.images, rows)
    return float(_right(points, dataset.labels[rows], folds).mean())


def _right(points: Floats, labels: Ints, folds: Sequence[Fold]) -> Bools:
    from sklearn.svm import SVC  # noqa: PLC0415  slow to import

    # For rows of length 1 the squared distance is 2 less twice the product.
    distances = 2 - 2 * points @ points.T
    kernel = np.exp(-distances / max(float(distances.mean()), 1e-6))
    right = np.zeros(len(labels), bool)
    for train, test in folds:
        machine = SVC(C=10.0, kernel="precomputed").fit(kernel[np.ix_(train, train)], labels[train])
        right[test] = machine.predict(kernel[np.ix_(test, train)]) == labels[test]
    return right


def _beside_training(
    dataset: Dataset, split: Split, by_features: float, watcher: Watcher
) -> BackboneTrial:
    """Train a network from scratch for half a minute, and compare it on the held-out images."""
    began = time.perf_counter()
    with graceful_interrupt() as stop:
        try:
            scratch = _accuracy_from_scratch(_averaged_down(dataset, split), stop, watcher)
        except (RecipeError, RunError):  # not even one epoch fits, or none could be learnt
            return BackboneTrial(words=_NO_TIME)
    seconds = time.perf_counter() - began
    # Where half a minute reaches what the features do, the minutes of a whole training surpass it.
    return BackboneTrial(
        scratch=scratch >= by_features and not stop.is_set(),
        words=f"a network trained from scratch for {seconds:.0f} s was right on {scratch:.0%} of "
        f"{len(split.val):,} training images kept apart for this, pretrained features on "
        f"{by_features:.0%}{'; Ctrl-C ended the trial' if stop.is_set() else ''}",
        stopped=stop.is_set(),
    )


def _averaged_down(dataset: Dataset, split: Split) -> Dataset:
    from opsin.classical.fit import Pooling  # noqa: PLC0415  stays quick to import

    pooling = Pooling.to_fit(cast("tuple[int, int, int]", dataset.images.shape[1:]), _SIDE)
    rows = np.concatenate([split.train, split.val])
    pixels = pooling.read(dataset.images, rows).reshape(len(rows), *pooling.shape)
    images = np.rint(255 * pixels).astype(np.uint8).transpose(0, 2, 3, 1)
    numbers, learnt = np.arange(len(rows)), len(split.train)
    return replace(
        dataset,
        images=np.ascontiguousarray(images),
        labels=dataset.labels[rows],
        split=Split(numbers[:learnt], numbers[learnt:], numbers[:0]),
    )


class _WholeTraining(Watcher):
    """Shows the share of all epochs as one piece of work."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def advance(self, done: int, **figures: float) -> None:
        del done
        if "share" in figures:
            self._watcher.advance(round(100 * figures["share"]))


def _accuracy_from_scratch(dataset: Dataset, stop: threading.Event, watcher: Watcher) -> float:
    """The last epoch's accuracy on the validation part, after a training on small images."""
    from opsin.commands.train.network import NetworkLearner  # noqa: PLC0415  needs PyTorch

    learner = NetworkLearner.decide(Loaded(None, dataset, budget=TRIAL_SECONDS), {}, SILENT)
    learner.watcher, learner.stop = _WholeTraining(watcher), stop
    watcher.begin("Trial", 100, "hundredths")
    with learner.ready(), tempfile.TemporaryDirectory() as folder:
        learner.directory = RunDirectory(folder)
        learner.fit()
    watcher.end()
    return cast("Outcome", learner.outcome).last.val_accuracy
