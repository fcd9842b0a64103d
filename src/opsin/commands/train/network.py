"""A network that is trained from its first weights or a checkpoint, and what ``auto`` chooses."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import nn

from opsin.commands.train.calibrate import ExportedFile
from opsin.commands.train.learner import Learner, Loaded, answering_device, versions
from opsin.commands.train.words import MIRRORED, class_mix_in_words
from opsin.core.arrays import Ints
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.format import clock, counted
from opsin.core.platform import cores
from opsin.core.recipe import DataRecipe, ModelRecipe, Recipe
from opsin.data.dataset import Dataset
from opsin.models import build_network
from opsin.models.architectures import MODELS
from opsin.models.resolve import resolve
from opsin.runtime.classifier import Classifier
from opsin.runtime.providers import CPU
from opsin.training.batches import TrainingBatches, with_balance
from opsin.training.budget import fit_budget, measure_epoch
from opsin.training.device import (
    choose_device,
    choose_precision,
    describe_device,
    estimate,
    fit_memory,
    has_quick_bfloat16,
    isolated_rng,
    threads_for,
    work_of,
)
from opsin.training.optimizers import rate_at
from opsin.training.process_group import ALONE, ProcessGroup
from opsin.training.torch_to_onnx import check_exportable, check_parity, to_onnx

# In a plan: points of the learning-rate curve, and seconds that steps are measured for.
_POINTS, _MEASURED = 100, 0.5


class _Amount(NamedTuple):
    """Defaults of ``auto`` for up to a number of training images."""

    images: float
    epochs: int
    batch: int
    minutes: float  # the most that the training may take
    options: Mapping[str, float]  # more augmentation for few images


_FEW: Final = 500
_STRONG: Final = {"zoom": 0.15, "rotate": 10.0, "brightness": 0.2}
_MILD: Final = {"zoom": 0.1, "brightness": 0.1}
# Few images are seen often, in small batches, so that there are some hundred steps at all, and
# never twice alike. Of very many, a few passes show as much.
_AMOUNTS: Final = (
    _Amount(100, 100, 16, 3, _STRONG), _Amount(_FEW, 80, 32, 5, _STRONG),
    _Amount(5_000, 40, 64, 4.5, _MILD), _Amount(20_000, 24, 256, 15, {}),
    _Amount(200_000, 20, 512, 20, {}), _Amount(math.inf, 8, 512, 60, {}),
)  # fmt: skip
# Filters of the first stage, the best first; the first that leaves time for half of the epochs is
# taken. Each stage doubles them, up to `_WIDEST` times; a further stage halves the image, until its
# smaller side is at most `_LAST_SIDE`.
_STEMS: Final = {"slow": (48, 32, 24, 16, 8), "quick": (64, 48, 32, 16, 8)}
_WIDEST, _LAST_SIDE = 8, 4
# On a GPU epochs are cheap, and large batches are, while there are so many of them in an epoch.
_GPU_EPOCHS, _GPU_BATCHES, _GPU_STEPS = 1.5, 4, 40
# Multiply-adds a second while training: of one core, of a usual GPU.
_RATES: Final = {"cpu": 50e9, "cpu with bfloat16": 120e9, "cuda": 15e12, "mps": 1.5e12}
# Seconds of a step, however small; forward once and backward twice.
_STEP, _PASSES = 0.006, 3


class NetworkLearner(Learner):
    """A network of Opsin's own."""

    network: nn.Sequential
    device: torch.device
    work: int  # multiply-adds of one forward pass over a batch
    recipe: Recipe
    epoch_seconds: float | None = None  # measured for a budget
    group = ALONE

    def __init__(self, dataset: Dataset, recipe: Recipe) -> None:
        self.dataset, self.recipe, self.layers = dataset, recipe, []

    @classmethod
    def decide(
        cls, loaded: Loaded, options: Mapping[str, object], watcher: Watcher
    ) -> NetworkLearner:
        """Choose network, size, epochs and balance where they are open."""
        began, dataset, seconds = time.perf_counter(), loaded.dataset, loaded.budget
        requested = {key: value for key, value in options.items() if value is not None}
        named, mirrored = None if loaded.model == "auto" else loaded.model, dataset.mirrored
        # Refuses an unknown option before any of them is used.
        recipe = resolve(dataset.recipe, model=named, mirrored=mirrored, **requested)
        device = choose_device(recipe.training.device)
        reasons = dict(loaded.reasons)
        if named is None:
            recipe, reason = choose(
                dataset.recipe,
                shape=dataset.images.shape[1:],
                images=len(dataset.split.train),
                classes=len(dataset.classes),
                mirrored=mirrored,
                device=device.type,
                quick=recipe.training.precision != "float32" and has_quick_bfloat16(device),
                requested=requested,
                seconds=seconds,
            )
            if seconds is None:  # a budget says its own
                reasons["Auto"] = reason
        if recipe.training.flip and not mirrored:
            watcher.note(MIRRORED)
        recipe, epoch_seconds = balanced(recipe, dataset), None
        if seconds is not None:
            recipe, chosen, epoch_seconds = fit_budget(
                seconds,
                recipe,
                dataset,
                device=device,
                fixed="epochs" in requested,
                watcher=watcher,
            )
            reasons["Budget"] = f"{clock(seconds)} · {chosen}"
        learner = cls(dataset, recipe.model_copy(update={"reasons": reasons | recipe.reasons}))
        learner.began, learner.budget, learner.epoch_seconds = began, seconds, epoch_seconds
        return learner

    @contextlib.contextmanager
    def ready(self, group: ProcessGroup = ALONE) -> Iterator[None]:
        """Build the network with fresh weights, and see that there is enough memory."""
        self.group = group
        self.recipe = group.first(self.recipe)  # a budget is measured by the clock
        self.device = choose_device(self.recipe.training.device)
        with isolated_rng(self.device, self.recipe.training.seed):
            self._build()
            group.wait()  # until every process has read what it goes on from
            with threads_for(self.work):
                yield

    def _build(self) -> None:
        dataset, classes = self.dataset, len(self.dataset.classes)
        self.recipe = self.recipe.model_copy(update={"versions": versions()})
        self.decided(**{"Class mix": class_mix_in_words(self.recipe.training.class_mix, dataset)})
        answering_device(self.recipe)
        _, height, width, channels = dataset.images.shape
        shape, side = (height, width, channels), self.recipe.training.crop_side
        if side is not None and (side, side) != (height, width):
            raise RecipeError(
                f"--crop-side {side} is for fine-tuning: a network trained from scratch takes "
                f"crops in the size of the images, {height}×{width}"
            )
        statistics = build_network.statistics_of(dataset.images, dataset.split.train)
        self.network = build_network.build(self.recipe.model, shape, classes, statistics=statistics)
        check_exportable(self.network)
        self.layers = build_network.summarise(self.network, shape)
        images = len(dataset.split.train) + len(dataset.split.val)
        self.recipe, note = fit_memory(
            self.recipe,
            self.layers,
            device=self.device,
            image_bytes=images * math.prod(shape),
            fixed=self.start is not None,
        )
        if note:
            self.decided(Memory=note)
        self.work = work_of(self.recipe.training, self.layers)
        precision = choose_precision(self.recipe.training.precision, self.work, self.device)
        self.recipe = self.group.first(self.recipe.with_training(precision=precision))

    def planned(self) -> dict[str, object]:
        """Its time, memory and learning rates; some steps are measured."""
        training = self.recipe.training
        # Not measured twice: a plan with a budget names one time.
        an_epoch = self.epoch_seconds or measure_epoch(
            self.recipe, self.dataset, self.device, seconds=_MEASURED
        )
        steps = [point / (_POINTS - 1) for point in range(_POINTS)]
        return {
            "seconds": training.epochs * an_epoch,
            "memory": estimate(self.recipe, self.layers, gpu=self.device.type != "cpu"),
            "rates": tuple((step, rate_at(training, step)) for step in steps),
        }

    def fit(self) -> float:
        """Train the network, which then holds the best epoch's weights."""
        data = self.dataset
        train, val = (
            TrainingBatches(data.images, data.labels, rows, self.device, self.group)
            for rows in (data.split.train, data.split.val)
        )
        return self.train_epochs(self.network, train, val).seconds

    def export(self) -> ExportedFile:
        """The network as ONNX."""
        labels = self.dataset.labels[self.dataset.split.train]
        is_balanced = self.recipe.training.balance in ("weights", "sampling")
        content = to_onnx(self.network, self.metadata(labels, balanced=is_balanced))
        device, path = answering_device(self.recipe), self.directory.classifier
        return ExportedFile(path, self.dataset, content, self.watcher, device=device)

    def difference(self, file: Classifier, rows: Ints) -> float:
        """Compare the file with PyTorch."""
        return check_parity(file, self.network, self.dataset.images[rows])

    @property
    def device_name(self) -> str:
        """Where PyTorch computes, and where ONNX Runtime does if elsewhere."""
        where, answers_on = describe_device(self.device), answering_device(self.recipe)
        if self.recipe.training.precision == "bfloat16":
            where += ", bfloat16"
        if self.group.world > 1:
            where = f"{self.group.world} processes, {where}"
        return where if answers_on == CPU else f"{where}; answers on {answers_on}"


def balanced(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Resolve ``balance="auto"`` in a recipe."""
    labels = dataset.labels[dataset.split.train]
    training, reasons = with_balance(recipe.training, labels, len(dataset.classes))
    update = {"training": training, "reasons": recipe.reasons | reasons}
    return recipe.model_copy(update=update)


def choose(
    data: DataRecipe,
    *,
    shape: Sequence[int],
    images: int,
    classes: int,
    mirrored: bool = True,
    device: str = "cpu",
    quick: bool = False,
    requested: Mapping[str, object] | None = None,
    seconds: float | None = None,
) -> tuple[Recipe, str]:
    """The recipe of ``auto`` by the images and the machine, and its reason."""
    settled = requested or {}
    height, width, channels = shape
    amount = next(amount for amount in _AMOUNTS if images <= amount.images)
    model = "resnet" if min(height, width) >= MODELS["resnet"].min_side else "mlp"
    asked = resolve(data, model=model, mirrored=mirrored, **settled)
    usual = resolve(data, model=model, optimizer=settled.get("optimizer")).training
    epochs, batch = amount.epochs, amount.batch
    speed, stems = _RATES[device], _STEMS["quick"]
    if device == "cpu":
        speed = cores() * _RATES["cpu with bfloat16" if quick else "cpu"]
        stems = stems if quick else _STEMS["slow"]
    else:
        epochs = round(_GPU_EPOCHS * epochs)
        while batch < _GPU_BATCHES * amount.batch and images >= 2 * batch * _GPU_STEPS:
            batch *= 2
    batch = asked.training.batch_size if "batch_size" in settled else batch
    # Adam's steps may grow with the root of the batch (Malladi et al., arXiv:2205.10287).
    rate = usual.learning_rate * min(2.0, math.sqrt(batch / usual.batch_size))
    wanted = asked.training.epochs if "epochs" in settled else epochs
    for size in _sizes(asked.model, min(height, width), classes, stems, settled):
        hidden = resolve(data, model=model, mirrored=True, **size).model.hidden
        work = _PASSES * images * MODELS[model].cost(hidden, (height, width, channels), classes)
        an_epoch = work / speed + _STEP * math.ceil(images / batch)
        fitting = (seconds or 60 * amount.minutes) / an_epoch
        if fitting >= wanted / 2:
            break
    options: dict[str, object] = {
        "epochs": max(1, min(epochs, int(fitting))),
        "batch_size": batch,
        "learning_rate": float(f"{rate:.2g}"),
        **(amount.options if model == "resnet" and "augment" not in settled else {}),
        **size,
        **settled,
    }
    recipe = resolve(data, model=model, mirrored=mirrored, **options)
    where = counted(cores(), "core") if device == "cpu" else "a usual GPU"
    few = ", few and so varied more" if recipe.training.rotate and images <= _FEW else ""
    reason = (
        f"{recipe.model.name} {','.join(map(str, recipe.model.hidden))}, "
        f"{recipe.training.epochs} epochs: {images:,} images of {height}×{width} for "
        f"{classes} classes{few}, on {where}"
    )
    return recipe, reason


def _sizes(
    asked: ModelRecipe, side: int, classes: int, stems: Sequence[int], settled: Mapping[str, object]
) -> Iterator[Mapping[str, object]]:
    if not MODELS[asked.name].convolutional or "hidden" in settled:
        yield {name: settled[name] for name in ("hidden", "depth") if name in settled}
        return
    stages = min(3, (side - 1).bit_length() - 1)
    while (side - 1) >> stages > _LAST_SIDE:
        stages += 1
    stages = asked.depth if "depth" in settled else stages
    for stem in stems:
        filters = [min(stem << stage, _WIDEST * stem) for stage in range(stages)]
        # The last stage needs room to tell many classes apart.
        filters[-1:] = [max(last, min(2 * last, classes // 2)) for last in filters[-1:]]
        yield {"hidden": tuple(filters)}
