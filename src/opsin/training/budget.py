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
from opsin.models.statistics import Statistics
from opsin.training.batches import TrainingBatches
from opsin.training.device import isolated_rng, settle_precision, threads_for
from opsin.training.memory import fit_memory, validation_batch
from opsin.training.step import TrainStep

# Share of the budget that is planned with; the rest is for what a short measurement cannot know.
_PLANNED: Final = 0.92
# Sizes that come into question, as shares of the recipe's own filters or units.
_SIZES: Final = (0.25, 0.5, 1, 1.5, 2)
# A smaller network is taken where fewer epochs fit, a larger one where that many fit; more do not
# pay. Epochs of a small set are short: it needs as many as make up so many steps.
_FEW, _PLENTY, _MOST = (5, 400), (20, 1_000), (100, 3_000)
# A measurement takes this number of seconds a size, or this share of the budget if that is less;
# validation, which is less work on fewer images, is looked at for a quarter of that.
_SECONDS, _SHARE, _VAL_SHARE = 1.0, 0.02, 0.25
# Steps that do not count, since in the first ones memory is taken and kernels are chosen; and
# steps that there should be, unless they take several times as long as a measurement may.
_WARM_UP, _STEPS, _PATIENCE = 2, 5, 4

# What an epoch takes however small it is: a checkpoint, and its lines on the screen and the disk.
_EPOCH: Final = 0.03

#: Gives the seconds of an epoch of a recipe, its validation included.
Measure = Callable[[Recipe], float]


def fit_budget(
    seconds: float,
    recipe: Recipe,
    data: Dataset,
    *,
    device: torch.device,
    given: Collection[str] = (),
    watcher: Watcher = SILENT,
    measure: Measure | None = None,
) -> tuple[Recipe, str, float]:
    """Choose the epochs and the size of the network so that the training fills a time."""
    sized, fixed = bool({"hidden", "depth"} & set(given)), "epochs" in given
    if sized and fixed:
        raise RecipeError(
            "a budget that may choose the epochs or the size of the network",
            "both are given",
            "Leave out --epochs, or --hidden and --depth, or --budget.",
        )

    def measured(candidate: Recipe) -> float:
        spent = min(_SECONDS, _SHARE * seconds)
        return measure_epoch(candidate, data, device, seconds=spent, given=given)

    sizes = [recipe.model] if sized else _sizes(recipe.model)
    watcher.begin("Measure", len(sizes), "sizes")
    budget = _Budget(seconds, recipe, measure or measured, watcher)
    steps = max(1, math.ceil(len(data.split.train) / recipe.training.batch_size))
    few, plenty, most = (
        recipe.training.epochs if fixed else max(epochs, math.ceil(least / steps))
        for epochs, least in (_FEW, _PLENTY, _MOST)
    )
    model = budget.largest(sizes, few, plenty)
    epochs = int(min(most, budget.epochs(model)))
    watcher.end()
    budget.check(model, recipe.training.epochs if fixed else 1, epochs)
    return (
        recipe.model_copy(update={"model": model}).with_training(epochs=epochs),
        f"{_sized(model)} · {epochs} epochs of about {_in_words(budget.cost(model))}",
        budget.cost(model),
    )


def _sizes(model: ModelRecipe) -> list[ModelRecipe]:
    """Return the network narrower, as it is, and wider; in multiples of four where it changes."""
    sizes = {}
    for share in _SIZES:
        hidden = tuple(max(4, 4 * round(share * units / 4)) for units in model.hidden)
        sizes[sum(hidden)] = model.model_copy(update={"hidden": hidden})
    # What is no smaller after rounding is no other size.
    sizes[sum(model.hidden)] = model
    return [sizes[total] for total in sorted(sizes)]


class _Budget:
    """How many epochs of a network fit, by what one takes; each is measured once.

    Args:
        seconds: The budget.
        recipe: What was asked for.
        measure: How long an epoch takes.
        watcher: Gets how many were measured.
    """

    def __init__(self, seconds: float, recipe: Recipe, measure: Measure, watcher: Watcher) -> None:
        self._began = time.perf_counter()
        self._seconds, self._recipe, self._measure = seconds, recipe, measure
        self._watcher = watcher
        self._known: dict[tuple[int, ...], float] = {}
        self._trouble: RecipeError | None = None

    def cost(self, model: ModelRecipe) -> float:
        """Return the seconds of an epoch; infinite where the memory is too small."""
        if model.hidden not in self._known:
            try:
                cost = self._measure(self._recipe.model_copy(update={"model": model}))
            except RecipeError as error:
                self._trouble, cost = error, math.inf
            self._known[model.hidden] = cost
            self._watcher.advance(len(self._known))
        return self._known[model.hidden]

    def epochs(self, model: ModelRecipe) -> float:
        """Return how many epochs fit into what is left when measuring is over."""
        cost = self.cost(model)
        return (_PLANNED * self._seconds - self._spent) / cost

    @property
    def _spent(self) -> float:
        return time.perf_counter() - self._began

    def largest(self, sizes: list[ModelRecipe], few: int, plenty: int) -> ModelRecipe:
        """Return the largest network for which enough epochs fit, or the smallest."""
        own = self._recipe.model
        number = sizes.index(own)
        while number and self.epochs(sizes[number]) < few:
            number -= 1
        while (
            sizes[number].hidden >= own.hidden
            and number + 1 < len(sizes)
            and min(self.epochs(sizes[number]), self.epochs(sizes[number + 1])) >= plenty
        ):
            number += 1
        return sizes[number]

    def check(self, model: ModelRecipe, least: int, possible: int) -> None:
        """Refuse a budget in which fewer than the least epochs are possible."""
        if possible >= least:
            return
        cost = self.cost(model)
        if self._trouble is not None and math.isinf(cost):
            raise self._trouble
        needed = (self._spent + least * cost) / _PLANNED
        instead = f"--epochs {possible}" if possible > 0 else "fewer or smaller images"
        raise RecipeError(
            f"a budget of at least {_in_words(needed)} for {counted(least, 'epoch')}",
            f"got {_in_words(self._seconds)}, and an epoch of {_sized(model)} takes "
            f"about {_in_words(cost)} here",
            f"Give a longer --budget, or {instead}.",
        )


def _sized(model: ModelRecipe) -> str:
    return f"{model.name} {','.join(map(str, model.hidden))}".rstrip()


def _in_words(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.2g} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def measure_epoch(
    recipe: Recipe,
    data: Dataset,
    device: torch.device,
    *,
    seconds: float,
    given: Collection[str] = (),
) -> float:
    """Return how long an epoch and its validation would take, from a few real steps."""
    height, width, channels = data.images.shape[1:]
    split = data.split
    with isolated_rng(device):
        # The time does not depend on what the pixels are scaled by.
        scale = Statistics([128.0] * channels, [64.0] * channels)
        shape = (height, width, channels)
        network = build_network.build(recipe.model, shape, len(data.classes), statistics=scale)
        image_bytes = (len(split.train) + len(split.val)) * math.prod(shape)
        layers = build_network.summarise(network, shape)
        recipe, _ = fit_memory(recipe, layers, device=device, images=image_bytes, given=given)
        recipe, work = settle_precision(recipe, layers, device)
        train = TrainingBatches(data.images, data.labels, split.train, device)
        val = TrainingBatches(data.images, data.labels, split.val, device)
        with threads_for(work):
            return time_epoch(network, recipe.training, train, val, seconds=seconds)


def time_epoch(
    network: nn.Module,
    recipe: TrainingRecipe,
    train: TrainingBatches,
    val: TrainingBatches,
    *,
    seconds: float,
) -> float:
    """Return how long an epoch and its validation would take, from a few real steps."""
    stepper = TrainStep(network, recipe, device=train.device)
    rate = recipe.learning_rate / 25  # about what a one-cycle rate begins with

    def learn(images: Tensor, labels: Tensor) -> None:
        stepper.step(images, labels, rate)

    def look(images: Tensor, _: Tensor) -> None:
        with torch.inference_mode():
            stepper.logits(images)

    network.train()
    epoch = len(train) * _an_image(learn, train, recipe.batch_size, seconds)
    network.eval()
    batch = validation_batch(*train.images.shape[1:3])
    return _EPOCH + epoch + len(val) * _an_image(look, val, batch, _VAL_SHARE * seconds)


def _an_image(
    work: Callable[[Tensor, Tensor], None], examples: TrainingBatches, size: int, seconds: float
) -> float:
    """Return the seconds that work takes an image, reading included: the median over steps."""
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
    """Yield batches in a random order, from the start again when all were seen."""
    order = np.random.default_rng(0).permutation(len(examples))
    while True:
        yield from examples.batches(order, size)
