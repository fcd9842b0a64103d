"""The epochs that fill a time budget, after a short measurement."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Generator
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.recipe import Recipe, TrainingRecipe
from opsin.data.dataset import Dataset
from opsin.models import build_network
from opsin.models.build_network import Statistics
from opsin.training.batches import TrainingBatches
from opsin.training.device import (
    choose_precision,
    fit_memory,
    isolated_rng,
    threads_for,
    validation_batch,
    work_of,
)
from opsin.training.step import TrainStep

# Planned share of the budget; the rest covers the error of a short measurement.
_PLANNED: Final = 0.92
# The most epochs, and steps if these are more, as for small datasets.
_MOST, _MOST_STEPS = 100, 3_000
# Seconds of a measurement, its share of the budget if that is less, and the validation's share of
# that.
_SECONDS, _SHARE, _VAL_SHARE = 1.0, 0.02, 0.25
# First steps that are not timed, since they allocate and choose kernels; timed steps; and how many
# times as long a measurement may take to reach these.
_WARM_UP, _STEPS, _PATIENCE = 2, 5, 4
# Seconds of the smallest epoch: a checkpoint, and its lines on the screen and the disk.
_EPOCH: Final = 0.03


def fit_budget(
    seconds: float,
    recipe: Recipe,
    data: Dataset,
    *,
    device: torch.device,
    fixed: bool = False,
    watcher: Watcher = SILENT,
) -> tuple[Recipe, str, float]:
    """Choose the epochs that fill a time; return the recipe, the choice, an epoch's seconds."""
    began = time.perf_counter()
    watcher.doing("measuring for the budget")
    an_epoch = measure_epoch(recipe, data, device, seconds=min(_SECONDS, _SHARE * seconds))
    steps = max(1, math.ceil(len(data.split.train) / recipe.training.batch_size))
    most = recipe.training.epochs if fixed else max(_MOST, math.ceil(_MOST_STEPS / steps))
    measuring = time.perf_counter() - began
    epochs = int(min(most, (_PLANNED * seconds - measuring) / an_epoch))
    size = f"{recipe.model.name} {','.join(map(str, recipe.model.hidden))}".rstrip()
    least = recipe.training.epochs if fixed else 1
    if epochs < least:
        needed = (measuring + least * an_epoch) / _PLANNED
        raise RecipeError(
            f"A budget of {_in_words(seconds)} is too short: {counted(least, 'epoch')} of {size} "
            f"need at least {_in_words(needed)} here",
            f"Give a longer --budget, or {f'--epochs {epochs}' if epochs > 0 else 'fewer images'}.",
        )
    words = f"{size} · {epochs} epochs of about {_in_words(an_epoch)}"
    return recipe.with_training(epochs=epochs), words, an_epoch


def _in_words(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.2g} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def measure_epoch(recipe: Recipe, data: Dataset, device: torch.device, *, seconds: float) -> float:
    """The seconds of an epoch and its validation, from a few real steps."""
    height, width, channels = data.images.shape[1:]
    split = data.split
    with isolated_rng(device):
        # The time does not depend on what the pixels are scaled by.
        scale = Statistics([128.0] * channels, [64.0] * channels)
        shape = (height, width, channels)
        network = build_network.build(recipe.model, shape, len(data.classes), statistics=scale)
        image_bytes = (len(split.train) + len(split.val)) * math.prod(shape)
        layers = build_network.summarise(network, shape)
        recipe, _ = fit_memory(recipe, layers, device=device, image_bytes=image_bytes)
        work = work_of(recipe.training, layers)
        precision = choose_precision(recipe.training.precision, work, device)
        training = recipe.training.model_copy(update={"precision": precision})
        train = TrainingBatches(data.images, data.labels, split.train, device)
        val = TrainingBatches(data.images, data.labels, split.val, device)
        with threads_for(work):
            return time_epoch(network, training, train, val, seconds=seconds)


def time_epoch(
    network: nn.Module,
    recipe: TrainingRecipe,
    train: TrainingBatches,
    val: TrainingBatches,
    *,
    seconds: float,
) -> float:
    """The seconds of an epoch and its validation, from a few real steps."""
    stepper = TrainStep(network, recipe, device=train.device)
    rate = recipe.learning_rate / 25  # about what a one-cycle rate begins with

    def learn(images: Tensor, labels: Tensor) -> None:
        stepper.step(images, labels, rate)

    def answer(images: Tensor, _: Tensor) -> None:
        with torch.inference_mode():
            stepper.logits(images)

    network.train()
    epoch = len(train) * _an_image(learn, train, recipe.batch_size, seconds)
    network.eval()
    batch = validation_batch(*train.images.shape[1:3])
    return _EPOCH + epoch + len(val) * _an_image(answer, val, batch, _VAL_SHARE * seconds)


def _an_image(
    work: Callable[[Tensor, Tensor], None], examples: TrainingBatches, size: int, seconds: float
) -> float:
    """The seconds of work an image, reading included: the median over steps."""
    if not len(examples):
        return 0.0
    times: list[float] = []
    with contextlib.closing(_endless(examples, size)) as batches:
        last = time.perf_counter()
        for images, labels in batches:
            work(images, labels)
            if examples.device.type == "cuda":
                torch.cuda.synchronize(examples.device)
            elif examples.device.type == "mps":
                torch.mps.synchronize()
            before, last = last, time.perf_counter()
            times.append((last - before) / len(labels))
            if len(times) == _WARM_UP:
                began = last
            elif len(times) > _WARM_UP:
                enough = _PATIENCE if len(times) < _WARM_UP + _STEPS else 1
                if last - began >= enough * seconds:
                    break
    return statistics.median(times[_WARM_UP:])


def _endless(examples: TrainingBatches, size: int) -> Generator[tuple[Tensor, Tensor]]:
    order = np.random.default_rng(0).permutation(len(examples))
    while True:
        yield from examples.batches(order, size)
