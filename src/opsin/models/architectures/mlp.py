"""Dense layers only: the tutorials' 784-128-10 network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from opsin.core.recipe import ModelRecipe
from opsin.models.architectures import ModelSpec, Shape

if TYPE_CHECKING:
    from torch import nn


def build(recipe: ModelRecipe, shape: Shape, classes: int) -> dict[str, nn.Module]:
    """Build Flatten, then Dense and activation for each of ``recipe.hidden``, then Dense K."""
    from torch import nn

    from opsin.models.torch_layers import ACTIVATIONS, glorot_uniform

    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    units = shape[0] * shape[1] * shape[2]
    for number, hidden in enumerate(recipe.hidden, start=1):
        layers[f"dense{number}"] = nn.Linear(units, hidden)
        layers[f"{recipe.activation}{number}"] = ACTIVATIONS[recipe.activation]()
        if recipe.dropout:
            layers[f"dropout{number}"] = nn.Dropout(recipe.dropout)
        units = hidden
    layers["head"] = nn.Linear(units, classes)
    for layer in layers.values():
        glorot_uniform(layer)
    return layers


def cost(hidden: Sequence[int], shape: Shape, classes: int) -> int:
    """Return the multiply-adds of one image."""
    units = [math.prod(shape), *hidden, classes]
    return sum(one * other for one, other in itertools.pairwise(units))


# Keras's optimiser, as in the tutorials; schedule and rate were tuned on validation data
# (docs/understand/measured.md).
SPEC: Final = ModelSpec(
    name="mlp",
    description="dense layers",
    defaults={
        "hidden": (128,), "dropout": 0.0, "epochs": 10, "batch_size": 128, "optimizer": "adam",
        "learning_rate": 3e-3, "schedule": "one-cycle", "weight_decay": 0.0, "label_smoothing": 0.0,
        "augment": "none",
    },
    build=build,
    cost=cost,
    min_side=1,
    convolutional=False,
)  # fmt: skip
