"""The tutorials' six convolutions in three blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from opsin.core.errors import RecipeError
from opsin.core.recipe import ModelRecipe
from opsin.models.architectures import ModelSpec, Shape

if TYPE_CHECKING:
    from torch import nn


def build(recipe: ModelRecipe, shape: Shape, classes: int) -> dict[str, nn.Module]:
    """Build a block for each of ``recipe.hidden``, then Flatten and Dense K."""
    from torch import nn

    from opsin.models.torch_layers import ACTIVATIONS, glorot_uniform

    height, width, channels = shape
    kind = recipe.activation
    layers: dict[str, nn.Module] = {}
    for number, filters in enumerate(recipe.hidden, start=1):
        height, width = (height - 2) // 2, (width - 2) // 2
        if min(height, width) < 1:
            fewer = f"--depth {number - 1}, " if number > 1 else ""
            raise RecipeError(
                f"Images of {shape[0]}×{shape[1]} are too small for {len(recipe.hidden)} blocks of "
                "the cnn",
                f"Give {fewer}a larger --size or another --model.",
            )
        block: OrderedDict[str, nn.Module] = OrderedDict()
        block["conv1"] = nn.Conv2d(channels, filters, 3, padding=1)
        block[f"{kind}1"] = ACTIVATIONS[kind]()
        # Keras's momentum 0.99 is PyTorch's 0.01.
        block["norm"] = nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01)
        block["conv2"] = nn.Conv2d(filters, filters, 3)
        block[f"{kind}2"] = ACTIVATIONS[kind]()
        block["pool"] = nn.MaxPool2d(2)
        if recipe.dropout:
            block["dropout"] = nn.Dropout(recipe.dropout)
        layers[f"block{number}"] = nn.Sequential(block)
        channels = filters
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(channels * height * width, classes)
    for layer in layers.values():
        glorot_uniform(layer)
    return layers


def cost(hidden: Sequence[int], shape: Shape, classes: int) -> int:
    """Return the multiply-adds of one image."""
    height, width, channels = shape
    total = 0
    for filters in hidden:
        total += 9 * height * width * channels * filters
        height, width = height - 2, width - 2
        total += 9 * height * width * filters * filters
        height, width, channels = height // 2, width // 2, filters
    return total + height * width * channels * classes


# Keras's optimiser, as in the tutorials; schedule and rate were tuned on validation data
# (docs/understand/measured.md).
SPEC: Final = ModelSpec(
    name="cnn",
    description="six convolutions",
    defaults={
        "hidden": (32, 64, 128), "dropout": 0.5, "epochs": 10, "batch_size": 32,
        "optimizer": "adam", "learning_rate": 2e-3, "schedule": "one-cycle", "weight_decay": 0.0,
        "label_smoothing": 0.0, "augment": "photos", "shift": 0,
    },
    build=build,
    cost=cost,
    min_side=22,
)  # fmt: skip
