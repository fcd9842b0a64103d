"""Which pretrained network images get, how it looks at them, and whether training beats it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from opsin._version import __version__
from opsin.backbones.named_backbones import NAMED
from opsin.classical.classical_recipe import BACKBONE
from opsin.commands.backbones import measured_backbone
from opsin.commands.train.learner import Loaded
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import (
    MissingExtraError,
    ModelFileError,
    RecipeError,
    RunError,
    StorageError,
)
from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import DATA_OPTIONS
from opsin.core.storage import write_json
from opsin.data.cache import cache_root
from opsin.data.dataset import Dataset
from opsin.data.lazy_images import ImageSubset
from opsin.data.split import Split

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone
    from opsin.backbones.feature_graph import View
    from opsin.evaluation.out_of_fold import Fold
    from opsin.training.trainer import Outcome

#: Training images from which on each is looked at once, and through a network's last features
#: alone: more of them tell more than more views and depths.
MANY_IMAGES: Final = 20_000
#: Seconds of the training from scratch that pretrained features are compared with.
TRIAL_SECONDS: Final = 24.0
# Seconds that the features of all images may take: for the better network, and for the quicker.
_SECONDS: Final = {"efficientnet-lite2": 120.0, "efficientnet-lite0": 600.0}
# Times as long as this, and no busy machine explains it.
_BUSY: Final = 20
# Share of a budget that these may take.
_SHARE: Final = 0.5
_FROZEN: Final = "Leave --fine-tune out: frozen features still work, and need no PyTorch."
# Training images that features are tried on, each class at its share; images kept apart that tell
# the two from each other at all.
_TRIED, _ENOUGH = 1_500, 30
# Times as many errors as with features, and gradients are so far behind that no training is tried:
# 2.35 and more with 25 photographs of a class or more, at most 1.8 where features were worse than
# training from scratch.
_FAR_BEHIND: Final = 2.2
# Side that images are averaged down to in the trial: so many more epochs say more than details.
_SIDE: Final = 32
# Share of images that gradients alone have right, where nothing is left for features to tell; and
# the sides from which on images are photographs, which are not looked at as a whole in training.
_SOLVED, _PHOTOGRAPH = 0.97, 64
_NO_TIME: Final = "there was no time to compare pretrained features with a training from scratch"


def model_asked(model: str | None, options: Mapping[str, Any]) -> str | None:
    """Return the model's name: a pretrained network that is given asks for a head on it."""
    given = options.get("backbone") is not None
    what = "to fine-tune" if options.get("fine_tune") else "to build on"
    if not given and (model == BACKBONE or options.get("fine_tune")):
        raise RecipeError(f"a pretrained network {what}", "none is given", "Name one: --from FILE.")
    if given and model not in (None, "auto", BACKBONE):
        raise RecipeError(
            "a pretrained network or a model",
            f"got both, {options['backbone']} and {model}",
            "Leave one out: --from or --model.",
        )
    return BACKBONE if given else model


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
        raise ModelFileError(
            "a network whose operators have gradients",
            f"{backbone.name}: {error.received}",
            _FROZEN,
        ) from error


def leaves_open(model: str | None, options: Mapping[str, Any]) -> bool:
    """Tell whether a request would fit a pretrained network as well: it has no wish for another."""
    wishes = {name for name, value in options.items() if value is not None}
    return model in (None, "auto") and wishes <= {*DATA_OPTIONS, "seed", "class_mix"}


def are_here() -> bool:
    """Tell whether the networks in the box, and ONNX that reads them, are installed."""
    try:
        importlib.import_module("onnx")
    except ImportError:
        return False
    return all(NAMED[name].path is not None for name in _SECONDS)


def network_in_time(dataset: Dataset, budget: float | None = None) -> str | None:
    """Return the best network in the box whose features of all images are computed in time."""
    looks, quick = len(dataset) * len(views_of(dataset, len(dataset.split.train))), None
    for name, most in _SECONDS.items():
        seconds = looks * measured_backbone(name, anew=False).milliseconds / 1000
        if most < seconds < _BUSY * most:
            seconds = looks * measured_backbone(name, anew=True).milliseconds / 1000
        if seconds <= most:
            quick = name
            if budget is None or seconds <= _SHARE * budget:
                return name
    return quick


def views_of(dataset: Dataset, learnt: int) -> tuple[View, ...]:
    """Return how images are looked at by a head that learns from so many of them."""
    if learnt > MANY_IMAGES or not dataset.mirrored:  # mirrored, they would mean something else
        return ("whole",)
    return ("whole", "mirrored")


class BackboneTrial(BaseModel):
    """Frozen features beside a network trained from scratch, on training images alone."""

    model_config = ConfigDict(frozen=True)

    #: Whether training from scratch is better.
    scratch: bool = False
    #: Which was right how often.
    words: str = ""
    #: Whether Ctrl-C ended it, so that features are taken.
    stopped: bool = False


def solved_by_gradients(dataset: Dataset, seed: int) -> str | None:
    """Say that gradients alone have nearly all of some small images right, where they have."""
    if max(dataset.images.shape[1:3]) >= _PHOTOGRAPH or len(dataset.split.train) < _TRIED / 3:
        return None
    rows, folds = _tried(dataset, seed)
    right = _right_by_gradients(dataset, rows, folds) if folds else 0.0
    if right < _SOLVED:
        return None
    return (
        f"histograms of gradients were right on {right:.0%} of {len(rows):,} training images, so "
        "pretrained features could add little: a network is trained from scratch"
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
    from opsin.backbones.features import compute, source_keys  # noqa: PLC0415  loads onnx
    from opsin.classical.heads import rooted  # noqa: PLC0415  loads scikit-learn

    known = known_trial(dataset, backbone, seed)
    if known is not None:
        return known
    rows, folds = _tried(dataset, seed)
    prepared = photographs()
    if not np.array_equal(dataset.source_digests, prepared.source_digests):
        return BackboneTrial(words="not all images can be read in both sizes")
    features = compute(
        backbone,
        ImageSubset(prepared.images, rows),
        prepared.digests[rows],
        views_of(prepared, len(prepared.split.train)),
        watcher=watcher,
        sources=source_keys(prepared.source_digests[rows], prepared.preparation),
    )
    points = rooted(features.mean(axis=1, dtype=np.float32), backbone.units)
    right = _right(points, prepared.labels[rows], folds)
    by_gradients = _right_by_gradients(dataset, rows, folds)
    if 1 - by_gradients >= _FAR_BEHIND * (1 - right.mean()):
        trial = BackboneTrial(
            words=f"pretrained features were right on {right.mean():.0%} of {len(rows):,} "
            f"training images, histograms of gradients on {by_gradients:.0%}",
        )
    elif budget is not None and budget < 5 * TRIAL_SECONDS:
        return BackboneTrial(words=_NO_TIME)
    else:
        train, test = folds[0]
        split = Split(rows[train], rows[test], test[:0])
        trial = _beside_training(dataset, split, float(right[test].mean()), watcher)
        if trial.stopped or trial.words == _NO_TIME:
            return trial
    # Where the cache cannot be written it is tried again the next time.
    with contextlib.suppress(StorageError):
        write_json(_kept_in(dataset, backbone, seed), trial.model_dump(mode="json"))
    return trial


def known_trial(dataset: Dataset, backbone: Backbone, seed: int) -> BackboneTrial | None:
    """Return what a trial found before; too few images for one get features."""
    _, folds = _tried(dataset, seed)
    if not folds or len(folds[0][1]) < _ENOUGH:
        return BackboneTrial()
    try:
        return BackboneTrial.model_validate_json(_kept_in(dataset, backbone, seed).read_bytes())
    except (OSError, ValidationError):
        return None


def _kept_in(dataset: Dataset, backbone: Backbone, seed: int) -> Path:
    shape = dataset.images.shape[1:]
    asked = f"{__version__} {dataset.fingerprint} {shape} {backbone.digest} {seed}"
    train = dataset.digests[dataset.split.train].tobytes()
    name = hashlib.sha256(asked.encode() + train).hexdigest()[:32]
    return cache_root() / "trials" / f"{name}.json"


def _tried(dataset: Dataset, seed: int) -> tuple[NDArray[np.int64], list[Fold]]:
    """Return the training images that are tried, and folds of them by their places."""
    from opsin.classical.pixels import drawn  # noqa: PLC0415  stays quick to import
    from opsin.evaluation.out_of_fold import folds_of  # noqa: PLC0415  loads scikit-learn

    train = dataset.split.train
    rows = drawn(train, dataset.labels[train], _TRIED, seed)
    return rows, folds_of(dataset.labels[rows], dataset.units[rows], seed)


def _right_by_gradients(dataset: Dataset, rows: NDArray[np.int64], folds: Sequence[Fold]) -> float:
    from opsin.classical.pixels import gradient_histograms  # noqa: PLC0415

    points = gradient_histograms(dataset.images, rows)
    return float(_right(points, dataset.labels[rows], folds).mean())


def _right(
    points: NDArray[np.float32], labels: NDArray[np.int64], folds: Sequence[Fold]
) -> NDArray[np.bool_]:
    """Return which images a support vector machine that has not seen them has right."""
    from sklearn.svm import SVC  # noqa: PLC0415  slow to import

    # Of rows of length 1 the squared distance is 2 less twice the product.
    apart = 2 - 2 * points @ points.T
    kernel = np.exp(-apart / max(float(apart.mean()), 1e-6))
    right = np.zeros(len(labels), bool)
    for train, test in folds:
        machine = SVC(C=10.0, kernel="precomputed").fit(kernel[np.ix_(train, train)], labels[train])
        right[test] = machine.predict(kernel[np.ix_(test, train)]) == labels[test]
    return right


def _beside_training(
    dataset: Dataset, split: Split, by_features: float, watcher: Watcher
) -> BackboneTrial:
    """Train a network from scratch for half a minute, and compare it on the images kept apart."""
    from opsin.training.graceful_interrupt import graceful_interrupt  # noqa: PLC0415  that module needs no PyTorch

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
    """Return the images of a split alone, small."""
    from opsin.classical.pixels import Pooling  # noqa: PLC0415  stays quick to import

    pooling = Pooling.to_fit(cast("tuple[int, int, int]", dataset.images.shape[1:]), _SIDE)
    rows = np.concatenate([split.train, split.val])
    pixels = pooling.read(dataset.images, rows).reshape(len(rows), *pooling.shape)
    images = np.rint(255 * pixels).astype(np.uint8).transpose(0, 2, 3, 1)
    places, learnt = np.arange(len(rows)), len(split.train)
    return replace(
        dataset,
        images=np.ascontiguousarray(images),
        labels=dataset.labels[rows],
        split=Split(places[:learnt], places[learnt:], places[:0]),
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
    """Train on small images; return the last epoch's accuracy on the validation part."""
    from opsin.commands.train.network import NetworkLearner  # noqa: PLC0415  needs PyTorch

    learner = NetworkLearner.decide(Loaded(None, dataset, budget=TRIAL_SECONDS), {}, SILENT)
    watcher.begin("Trial", 100, "hundredths")
    with learner.ready(), tempfile.TemporaryDirectory() as folder:
        learner.fit(RunDirectory(folder), _WholeTraining(watcher), stop)
    watcher.end()
    return cast("Outcome", learner.outcome).last.val_accuracy
