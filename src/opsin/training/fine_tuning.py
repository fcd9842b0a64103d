"""A pretrained network and its head as one trainable module."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from opsin.core.recipe import TrainingRecipe
from opsin.models.onnx_network import TorchNetwork
from opsin.training.batches import TrainingBatches
from opsin.training.step import TrainStep
from opsin.training.trainer import validate

# Shares of the new weights in the averages that are tried.
_SHARES = (1.0, 0.8, 0.6, 0.4)


def learning(content: bytes, names: Collection[str]) -> TorchNetwork:
    """A classifier.onnx as a module that learns some of its weights."""
    network = TorchNetwork(content, learns=True)
    for name, value in network.learnt().items():
        value.requires_grad_(name in names)
    for value in network.parameters():
        if value.ndim == 4:  # the quicker order of convolutions
            value.data = value.data.contiguous(memory_format=torch.channels_last)
    return network


def with_crops(recipe: TrainingRecipe, network: TorchNetwork, channels: int) -> TrainingRecipe:
    """A recipe with crops smaller than images (arXiv:1906.06423), if a network takes them."""
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
    """Set a network to its best mean of new and first weights by log loss (arXiv:2109.01903)."""
    stepper = TrainStep(network, recipe.model_copy(update={"ema": 0.0}), device=val.device)
    last = network.weights()
    losses = {}
    for share in _SHARES:
        network.take({name: share * last[name] + (1 - share) * first[name] for name in last})
        losses[share] = validate(stepper, val, None)[0]
    best = min(losses, key=losses.__getitem__)
    network.take({name: best * last[name] + (1 - best) * first[name] for name in last})
    network.to("cpu")
    return best
