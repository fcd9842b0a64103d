"""A recipe that fills a time budget, after a short measurement."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Collection, Generator
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.recipe import ModelRecipe, Recipe, TrainingRecipe
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
# Candidate sizes, as shares of the recipe's own filters or units.
_SIZES: Final = (0.25, 0.5, 1, 1.5, 2)
# Fewer epochs than the first: a smaller network; the second: a larger one; at most the third.
# Each as epochs and, for small datasets with short epochs, as steps.
_FEW, _PLENTY, _MOST = (5, 400), (20, 1_000), (100, 3_000)
# Seconds of a measurement of each size, its share of the budget if that is less, and the
# validation's share of that.
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
    given: Collection[str] = (),
    watcher: Watcher = SILENT,
    measure: Callable[[Recipe], float] | None = None,
) -> tuple[Recipe, str, float]:
    """Choose the epochs and the size of the network so that the training fills a time.

    Returns:
        The recipe, what was chosen in words, and the seconds of an epoch.
    """
    sized, fixed = bool({"hidden", "depth"} & set(given)), "epochs" in given
    if sized and fixed:
        raise RecipeError(
            "--budget has nothing to choose where the epochs and the size of the network are given",
            "Leave out --epochs, or --hidden and --depth, or --budget.",
        )
    began, costs = time.perf_counter(), dict[tuple[int, ...], float]()
    sizes = [recipe.model] if sized else _sizes(recipe.model)

    def cost(model: ModelRecipe) -> float:
        """The seconds of an epoch, measured once; infinite if the memory is too small."""
        if model.hidden not in costs:
            candidate = recipe.model_copy(update={"model": model})
            spent = min(_SECONDS, _SHARE * seconds)
            try:
                costs[model.hidden] = (
                    measure(candidate)
                    if measure
                    else measure_epoch(candidate, data, device, seconds=spent)
                )
            except RecipeError:
                if model == sizes[0]:
                    raise
                costs[model.hidden] = math.inf
            watcher.advance(len(costs))
        return costs[model.hidden]

    def fitting(model: ModelRecipe) -> float:
        """The epochs that fit into the time left."""
        an_epoch = cost(model)
        return (_PLANNED * seconds - (time.perf_counter() - began)) / an_epoch

    watcher.begin("Measure", len(sizes), "sizes")
    steps = max(1, math.ceil(len(data.split.train) / recipe.training.batch_size))
    few, plenty, most = (
        recipe.training.epochs if fixed else max(epochs, math.ceil(least / steps))
        for epochs, least in (_FEW, _PLENTY, _MOST)
    )
    model = _largest(sizes, recipe.model, fitting, few, plenty)
    epochs = int(min(most, fitting(model)))
    watcher.end()
    size = f"{model.name} {','.join(map(str, model.hidden))}".rstrip()
    least = recipe.training.epochs if fixed else 1
    if epochs < least:
        needed = (time.perf_counter() - began + least * cost(model)) / _PLANNED
        raise RecipeError(
            f"A budget of {_in_words(seconds)} is too short: {counted(least, 'epoch')} of {size} "
            f"need at least {_in_words(needed)} here",
            f"Give a longer --budget, or {f'--epochs {epochs}' if epochs > 0 else 'fewer images'}.",
        )
    return (
        recipe.model_copy(update={"model": model}).with_training(epochs=epochs),
        f"{size} · {epochs} epochs of about {_in_words(cost(model))}",
        cost(model),
    )


def _largest(
    sizes: list[ModelRecipe],
    usual: ModelRecipe,
    fitting: Callable[[ModelRecipe], float],
    few: int,
    plenty: int,
) -> ModelRecipe:
    """The largest network for which enough epochs fit, or the smallest."""
    number = sizes.index(usual)
    while number and fitting(sizes[number]) < few:
        number -= 1
    while (
        sizes[number].hidden >= usual.hidden
        and number + 1 < len(sizes)
        and min(fitting(sizes[number]), fitting(sizes[number + 1])) >= plenty
    ):
        number += 1
    return sizes[number]


def _sizes(model: ModelRecipe) -> list[ModelRecipe]:
    """The network narrower, as it is, and wider; changed sizes are multiples of four."""
    sizes = {}
    for share in _SIZES:
        hidden = tuple(max(4, 4 * round(share * units / 4)) for units in model.hidden)
        sizes[sum(hidden)] = model.model_copy(update={"hidden": hidden})
    # Of sizes equal after rounding, the recipe's own stays.
    sizes[sum(model.hidden)] = model
    return [sizes[total] for total in sorted(sizes)]


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
