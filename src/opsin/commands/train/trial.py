"""Whether training from scratch beats a pretrained network's features, tried on training images."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from opsin._version import __version__
from opsin.commands.train.learner import Loaded
from opsin.commands.train.recorder import graceful_interrupt
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RecipeError, RunError, StorageError
from opsin.core.events import SILENT, Watcher
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


class BackboneTrial(BaseModel):
    """Frozen features beside a network trained from scratch, on training images alone."""

    model_config = ConfigDict(frozen=True)

    scratch: bool = False  # whether training from scratch is better
    words: str = ""  # which was right how often
    stopped: bool = False  # whether Ctrl-C ended it, so that features are taken


def views_of(dataset: Dataset, learnt: int) -> tuple[View, ...]:
    """How images are looked at by a head that learns from so many of them."""
    if learnt > MANY_IMAGES or not dataset.mirrored:  # mirrored, they would mean something else
        return ("whole",)
    return ("whole", "mirrored")


def solved_by_gradients(dataset: Dataset, seed: int) -> str | None:
    """Words for small images that gradients alone have nearly all right; else ``None``."""
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
    from opsin.backbones.features import compute  # noqa: PLC0415  loads onnx
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
    """What a trial found before; too few images for one get features."""
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
    """The training images that are tried, and folds of them by their places."""
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
    """The images that a support vector machine that has not seen them has right."""
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
    from opsin.classical.pixels import Pooling  # noqa: PLC0415  stays quick to import

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
    watcher.begin("Trial", 100, "hundredths")
    with learner.ready(), tempfile.TemporaryDirectory() as folder:
        learner.fit(RunDirectory(folder), _WholeTraining(watcher), stop)
    watcher.end()
    return cast("Outcome", learner.outcome).last.val_accuracy
