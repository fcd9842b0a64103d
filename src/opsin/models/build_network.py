"""A network built from a recipe, and its summary."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from opsin.core.errors import RecipeError
from opsin.core.metadata import Layer, LayerOp
from opsin.core.recipe import ModelRecipe
from opsin.models.registry import MODELS
from opsin.models.statistics import Statistics
from opsin.models.torch_layers import Add, GlobalMaximum, Normalise


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
                name=names[module], kind=_kind(module), shape=size,
                parameters=held, trainable=trainable, multiply_adds=work,
            )
        )  # fmt: skip

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
        nn.Linear: LayerOp.DENSE, nn.BatchNorm1d: LayerOp.BATCH_NORM,
        nn.BatchNorm2d: LayerOp.BATCH_NORM, GlobalMaximum: LayerOp.MAXIMUM,
        Normalise: LayerOp.NORMALISE, Add: LayerOp.ADD,
    }  # fmt: skip
    return named.get(type(module), type(module).__name__)
