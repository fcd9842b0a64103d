"""Dense layers only: the tutorials' 784-128-10 network."""

from __future__ import annotations

from torch import nn

from opsin.core.recipe import ModelRecipe
from opsin.models.keras_initial import glorot_uniform
from opsin.models.torch_layers import activation


def build(recipe: ModelRecipe, shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """Build Flatten, then Dense and activation for each of ``recipe.hidden``, then Dense K.

    On 28×28 grey pictures and ten classes it has 101,770 parameters, as in Keras's tutorial
    (https://www.tensorflow.org/tutorials/keras/classification).

    Args:
        recipe: Sizes, activation and dropout.
        shape: Height, width and channels of a picture.
        classes: K, the number of classes.

    Returns:
        The layers in order, the last one named ``head``.
    """
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    units = shape[0] * shape[1] * shape[2]
    for number, hidden in enumerate(recipe.hidden, start=1):
        layers[f"dense{number}"] = nn.Linear(units, hidden)
        layers[f"{recipe.activation}{number}"] = activation(recipe.activation)
        if recipe.dropout:
            layers[f"dropout{number}"] = nn.Dropout(recipe.dropout)
        units = hidden
    layers["head"] = nn.Linear(units, classes)
    for layer in layers.values():
        glorot_uniform(layer)
    return layers
