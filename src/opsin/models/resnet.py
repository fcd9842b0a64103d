"""A small residual network, accurate for its cost."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from opsin.errors import RecipeError
from opsin.models.layers import Add, GlobalAverage, activation
from opsin.recipe import Activation, ModelRecipe


def build(recipe: ModelRecipe, shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """Build a stem, then a stage for each further number of filters, then the mean and Dense K.

    The stem and the head of each stage are Conv 3×3, MaxPool 2, BatchNorm, activation; each stage
    adds a residual block of two convolutions (He et al., "Deep residual learning for image
    recognition", CVPR 2016; the shape of the whole after D. Page's ResNet-9,
    "How to train your ResNet", 2018). Pooling comes before BatchNorm and activation because on a
    CPU these are bound by memory, and so have a quarter of the values to move.

    Args:
        recipe: Filters of the stem and the stages, activation and dropout.
        shape: Height, width and channels of a picture.
        classes: K, the number of classes.

    Returns:
        The layers in order, the last one named ``head``.

    Raises:
        RecipeError: The pictures are too small for this many stages.
    """
    height, width, channels = shape
    if min(height, width) < 2 ** len(recipe.hidden):
        raise RecipeError(
            f"pictures of at least {2 ** len(recipe.hidden)} pixels for a stem and "
            f"{len(recipe.hidden) - 1} stages of the resnet",
            f"these are {height}×{width}",
            "Give a smaller --depth, a larger --size, or another --model.",
        )
    layers: dict[str, nn.Module] = {}
    for number, filters in enumerate(recipe.hidden):
        layers[f"stage{number}" if number else "stem"] = _halving(
            channels, filters, recipe.activation
        )
        if number:
            layers[f"residual{number}"] = Residual(filters, recipe.activation)
        channels = filters
    layers["average"] = GlobalAverage()
    if recipe.dropout:
        layers["dropout"] = nn.Dropout(recipe.dropout)
    layers["head"] = nn.Linear(channels, classes)
    for layer in layers.values():
        for conv in layer.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return layers


def _halving(channels: int, filters: int, name: Activation) -> nn.Sequential:
    """Conv 3×3 to another number of filters, at half the height and width."""
    return nn.Sequential(
        OrderedDict(
            {
                "conv": nn.Conv2d(channels, filters, 3, padding=1, bias=False),
                "pool": nn.MaxPool2d(2),
                "norm": nn.BatchNorm2d(filters),
                name: activation(name),
            }
        )
    )


class Residual(nn.Module):
    """Two convolutions whose result is added to what came in.

    Args:
        filters: Number of maps, in and out.
        name: The non-linearity.
    """

    def __init__(self, filters: int, name: Activation) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.act1 = activation(name)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.add = Add()
        self.act2 = activation(name)

    def forward(self, maps: Tensor) -> Tensor:
        """Return ``float32[N, filters, H, W]``, the shape of ``maps``."""
        inner = self.act1(self.norm1(self.conv1(maps)))
        inner = self.norm2(self.conv2(inner))
        result: Tensor = self.act2(self.add(maps, inner))
        return result
