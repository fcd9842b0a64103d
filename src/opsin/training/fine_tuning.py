"""A pretrained network and its head as one module that learns."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch

from opsin.core.events import Watcher
from opsin.core.operating_system import memory_left
from opsin.core.recipe import TrainingRecipe
from opsin.models.onnx_network import TorchNetwork
from opsin.training.batches import TrainingBatches
from opsin.training.budget import time_epoch

# Seconds that a step is measured for, to see how many epochs fit into a budget.
_MEASURED = 3.0
# Bytes that a step takes for each number that a layer puts out: itself, what it was made of, its
# gradient, and copies that live for a moment.
_BYTES = 16
_SMALLEST_PART = 8


def learning(content: bytes) -> TorchNetwork:
    """Return a classifier.onnx as a module whose network and head learn, and nothing before it."""
    network = TorchNetwork(content, learns=True)
    for name, value in network.learnt().items():
        if name.startswith("input."):  # the scale of the pixels
            value.requires_grad_(False)
    for value in network.parameters():
        if value.ndim == 4:  # in which order convolutions are quicker
            value.data = value.data.contiguous(memory_format=torch.channels_last)
    return network


def fitting_batch(recipe: TrainingRecipe, shapes: Iterable[tuple[int, ...]]) -> int:
    """Return how many images of a batch the memory has room for at once.

    Args:
        recipe: How it trains.
        shapes: Of the network's values for one image.
    """
    left = memory_left()
    an_image = _BYTES * sum(math.prod(shape) for shape in shapes)
    size = recipe.micro_batch or recipe.batch_size
    while size > _SMALLEST_PART and size * an_image > left / 2:
        size //= 2
    return size


def fitting_epochs(
    network: TorchNetwork,
    recipe: TrainingRecipe,
    train: TrainingBatches,
    val: TrainingBatches,
    *,
    seconds: float,
    watcher: Watcher,
) -> tuple[int, float]:
    """Return how many epochs fit into a time, one at least, and what each takes.

    Args:
        network: A copy of it is trained for a few steps.
        recipe: How it would be trained; no more epochs than its own are taken.
        train: What it learns from.
        val: What it is validated on.
        seconds: The time that there is.
        watcher: Receives what is being done.
    """
    watcher.doing("measuring for the budget")
    measured = min(_MEASURED, 0.02 * seconds)
    an_epoch = time_epoch(copy.deepcopy(network), recipe, train, val, seconds=measured)
    return max(1, min(recipe.epochs, int(seconds / an_epoch))), an_epoch
