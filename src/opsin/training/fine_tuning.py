"""A pretrained network and its head as one module that learns."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from opsin.core.events import Watcher
from opsin.core.platform import memory_left
from opsin.core.recipe import TrainingRecipe
from opsin.models.onnx_network import TorchNetwork
from opsin.training.batches import TrainingBatches
from opsin.training.budget import time_epoch
from opsin.training.step import TrainStep
from opsin.training.trainer import validate

# Seconds that a step is measured for, to see how many epochs fit into a budget.
_MEASURED = 3.0
# Bytes that a step takes for each number that a layer puts out: itself, what it was made of, its
# gradient, and copies that live for a moment.
_BYTES = 16
_SMALLEST_PART = 8
# Shares of what was learnt that weights are tried with.
_SHARES = (1.0, 0.8, 0.6, 0.4)


def learning(content: bytes, names: Collection[str]) -> TorchNetwork:
    """Return a classifier.onnx as a module that learns some of its weights."""
    network = TorchNetwork(content, learns=True)
    for name, value in network.learnt().items():
        value.requires_grad_(name in names)
    for value in network.parameters():
        if value.ndim == 4:  # in which order convolutions are quicker
            value.data = value.data.contiguous(memory_format=torch.channels_last)
    return network


def with_crops(recipe: TrainingRecipe, network: TorchNetwork, channels: int) -> TrainingRecipe:
    """Return a recipe whose crops have a size that a network takes.

    Things look larger in a crop than in the whole image, by which crops may have fewer pixels: that
    is quicker and no worse (H. Touvron et al., "Fixing the train-test resolution discrepancy",
    NeurIPS 2019). Where a network takes one size only, as where it tells places apart, they have
    that.
    """
    if not recipe.crop or recipe.crop_side is None:
        return recipe
    side = recipe.crop_side
    try:
        with torch.inference_mode():
            network(torch.zeros(1, side, side, channels, dtype=torch.uint8))
    except RuntimeError:
        return recipe.model_copy(update={"crop_side": None})
    return recipe


def averaged(
    network: TorchNetwork,
    first: Mapping[str, NDArray[np.float32]],
    val: TrainingBatches,
    recipe: TrainingRecipe,
) -> float:
    """Leave a network with a mean of its weights and its first ones: that of the lowest log loss.

    M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    stepper = TrainStep(network, recipe.model_copy(update={"ema": 0.0}), device=val.device)
    last = network.weights()
    losses = {}
    for share in _SHARES:
        network.take({name: share * last[name] + (1 - share) * first[name] for name in last})
        losses[share] = validate(stepper, val)[0]
    best = min(losses, key=losses.__getitem__)
    network.take({name: best * last[name] + (1 - best) * first[name] for name in last})
    network.to("cpu")
    return best


def fitting_batch(recipe: TrainingRecipe, shapes: Iterable[tuple[int, ...]]) -> int:
    """Return how many images of a batch the memory has room for at once."""
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
    """Return how many epochs fit into a time, one at least, and what each takes."""
    watcher.doing("measuring for the budget")
    measured = min(_MEASURED, 0.02 * seconds)
    an_epoch = time_epoch(copy.deepcopy(network), recipe, train, val, seconds=measured)
    return max(1, min(recipe.epochs, int(seconds / an_epoch))), an_epoch
