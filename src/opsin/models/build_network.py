"""A network built from a recipe and the statistics of its images, and its summary."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from opsin.core.arrays import Doubles, Floats, Ints
from opsin.core.errors import RecipeError
from opsin.core.metadata import Layer, LayerOp
from opsin.core.recipe import ModelRecipe
from opsin.data.lazy_images import Images
from opsin.models.architectures import MODELS
from opsin.models.torch_layers import Add, GlobalMaximum, Normalise

# Pixels whose patches are measured: the twelve directions of 2×2 colour pixels need no more.
_PATCHED: Final = 4_000_000
_BLOCK: Final = 250_000
# Added to each variance, so that directions in which nothing varies are not blown up.
_FLOOR: Final = 5e-4


@dataclass(frozen=True)
class Statistics:
    """Figures over the training images that go into a network's first layers."""

    mean: list[float]  # mean of each channel, 0 to 255
    deviation: list[float]  # standard deviation of each channel
    # Filters that give the patches of 2×2 normalised pixels variance 1 in every direction, and
    # their negatives, ``float32[8C, C, 2, 2]``; ``None`` to leave a network that has such a layer
    # with random ones.
    whitening: Floats | None = None


def statistics_of(images: Images, rows: Ints) -> Statistics:
    """Return the statistics of some of the images."""
    channels = images.shape[3]
    count = 0
    total = np.zeros(channels, np.int64)
    squares = np.zeros(channels, np.int64)
    for start in range(0, len(rows), 1024):
        block = images[rows[start : start + 1024]].reshape(-1, channels)
        count += len(block)
        total += block.sum(axis=0, dtype=np.int64)
        squares += np.square(block, dtype=np.uint16).sum(axis=0, dtype=np.int64)
    mean = total / count
    # A channel that never changes is not scaled.
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 1.0))
    # Spread over the rows, which may be sorted by class.
    enough = min(len(rows), max(16, _PATCHED // (images.shape[1] * images.shape[2])))
    some = rows[np.linspace(0, len(rows) - 1, enough).astype(np.int64)]
    return Statistics(mean.tolist(), deviation.tolist(), _whitening(images, some, mean, deviation))


def _whitening(images: Images, rows: Ints, mean: Doubles, deviation: Doubles) -> Floats:
    """Eigenvectors of the patches' covariance, each over its eigenvalue's root (D. Page, 2018)."""
    channels = images.shape[3]
    covariance = np.zeros((4 * channels, 4 * channels))
    count = 0
    size = max(1, _BLOCK // (images.shape[1] * images.shape[2]))
    for start in range(0, len(rows), size):
        block = ((images[rows[start : start + size]] - mean) / deviation).transpose(0, 3, 1, 2)
        corners = [
            block[:, :, y : y - 1 or None, x : x - 1 or None] for y in (0, 1) for x in (0, 1)
        ]
        # One row a patch, in the order of a filter's own numbers: channel, then row, then column.
        patches = np.stack(corners, axis=2).transpose(0, 3, 4, 1, 2).reshape(-1, 4 * channels)
        covariance += patches.T @ patches
        count += len(patches)
    values, vectors = np.linalg.eigh(covariance / count)
    filters = (vectors / np.sqrt(values + _FLOOR)).T.reshape(-1, channels, 2, 2)
    return np.concatenate([filters, -filters]).astype(np.float32)


def build(
    recipe: ModelRecipe, shape: tuple[int, int, int], classes: int, *, statistics: Statistics
) -> nn.Sequential:
    """Build a network with fresh weights from PyTorch's random state."""
    spec = MODELS[recipe.name]
    if spec.convolutional and not recipe.hidden:
        advice = "For example --hidden 32,64."
        raise RecipeError(f"A {recipe.name} needs at least one block", advice)
    layers = spec.build(recipe, shape, classes)
    first = Normalise(statistics.mean, statistics.deviation)
    whiten = layers.get("whiten")
    if isinstance(whiten, nn.Conv2d) and statistics.whitening is not None:
        whiten.weight.data = torch.from_numpy(statistics.whitening)
    network = nn.Sequential(OrderedDict({"input": first, **layers}))
    # Convolutions on a CPU are quickest with the channels of a pixel side by side.
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


def summarise(network: nn.Sequential, shape: tuple[int, int, int]) -> list[Layer]:
    """Describe each layer in the order of its work, without changing the network."""
    rows: list[Layer] = []
    names = {module: name for name, module in network.named_modules() if not [*module.children()]}

    def describe(module: nn.Module, _: object, output: Tensor) -> None:
        size = tuple(output.shape[1:])
        held = sum(p.numel() for p in module.parameters())
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            held += 2 * module.num_features  # running mean and variance
        work = 0
        if isinstance(module, nn.Conv2d | nn.Linear):
            work = math.prod(size[1:]) * module.weight.numel()  # its weights at each place
        trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
        rows.append(
            Layer(
                name=names[module],
                kind=_kind(module),
                shape=size,
                parameters=held,
                trainable=trainable,
                multiply_adds=work,
            )
        )

    hooks = [module.register_forward_hook(describe) for module in names]
    was_training = network.training
    device = next(network.parameters()).device
    with torch.inference_mode():
        network.eval()(torch.zeros((1, *shape), dtype=torch.uint8, device=device))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return rows


def _kind(module: nn.Module) -> str:
    match module:
        case nn.Conv2d():
            same = "valid" if module.padding in ((0, 0), "valid") else "same"
            step = f", stride {module.stride[0]}" if module.stride != (1, 1) else ""
            return f"{LayerOp.CONV} {module.kernel_size[0]}×{module.kernel_size[1]} {same}{step}"
        case nn.MaxPool2d():
            return f"{LayerOp.MAX_POOL} {module.kernel_size}"
        case nn.Dropout():
            return f"{LayerOp.DROPOUT} {module.p:g}"
    named = {
        nn.Linear: LayerOp.DENSE,
        nn.BatchNorm1d: LayerOp.BATCH_NORM,
        nn.BatchNorm2d: LayerOp.BATCH_NORM,
        GlobalMaximum: LayerOp.MAXIMUM,
        Normalise: LayerOp.NORMALISE,
        Add: LayerOp.ADD,
    }
    return named.get(type(module), type(module).__name__)
