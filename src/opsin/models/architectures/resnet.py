"""A small residual network, accurate for its cost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from opsin.core.recipe import ModelRecipe
from opsin.models.architectures import ModelSpec, Shape

if TYPE_CHECKING:
    from torch import nn


def build(recipe: ModelRecipe, shape: Shape, classes: int) -> dict[str, nn.Module]:
    """Build a whitening layer, a stage for each of ``recipe.hidden``, the maximum and Dense K.

    The first layer is fixed: its filters give patches of 2×2 pixels equal variance in every
    direction (see `opsin.models.build_network`). A stage is Conv 3×3, MaxPool 2, BatchNorm,
    activation, and a residual block of one convolution (He et al., "Deep residual learning for
    image recognition", CVPR 2016). The shape of the whole is after K. Jordan's cifar10-airbench
    ("94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498), made narrower. Pooling
    comes before BatchNorm and activation because on a CPU these are bound by memory, and so have
    a quarter of the values to move.
    """
    from torch import nn

    from opsin.models.torch_layers import ACTIVATIONS, GlobalMaximum, Residual

    height, width, channels = shape
    layers: dict[str, nn.Module] = {"whiten": nn.Conv2d(channels, 8 * channels, 2, bias=False)}
    layers[f"whiten_{recipe.activation}"] = ACTIVATIONS[recipe.activation]()
    channels *= 8
    side = min(height, width) - 1
    for number, filters in enumerate(recipe.hidden, start=1):
        stage: OrderedDict[str, nn.Module] = OrderedDict()
        stage["conv"] = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        if side > 1:
            stage["pool"] = nn.MaxPool2d(2)
        stage["norm"] = nn.BatchNorm2d(filters)
        stage[recipe.activation] = ACTIVATIONS[recipe.activation]()
        layers[f"stage{number}"] = nn.Sequential(stage)
        side = max(1, side // 2)
        layers[f"residual{number}"] = Residual(filters, recipe.activation)
        channels = filters
    layers["maximum"] = GlobalMaximum()
    if recipe.dropout:
        layers["dropout"] = nn.Dropout(recipe.dropout)
    layers["head"] = nn.Linear(channels, classes)
    for layer in layers.values():
        for conv in layer.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    layers["whiten"].requires_grad_(False)
    return layers


def cost(hidden: Sequence[int], shape: Shape, classes: int) -> int:
    """Return the multiply-adds of one image."""
    height, width, channels = shape
    height, width = height - 1, width - 1
    total = 4 * channels * 8 * channels * height * width
    channels *= 8
    for filters in hidden:
        total += 9 * height * width * channels * filters
        if min(height, width) > 1:
            height, width = height // 2, width // 2
        channels = filters
        total += 9 * height * width * filters * filters
    return total + channels * classes


# Tuned on validation data (docs/understand/measured.md).
SPEC: Final = ModelSpec(
    name="resnet",
    description="small, residual",
    defaults={
        "hidden": (48, 96, 192), "activation": "gelu", "dropout": 0.0, "epochs": 20,
        "batch_size": 512, "optimizer": "muon", "learning_rate": 0.1, "momentum": 0.6,
        "schedule": "one-cycle", "weight_decay": 0.05, "label_smoothing": 0.1, "augment": "photos",
        "erase": 0.25,
    },
    build=build,
    cost=cost,
    min_side=8,  # below this there is nothing for convolutions to look at
)  # fmt: skip
