"""A small residual network, accurate for its cost."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from opsin.core.recipe import Activation, ModelRecipe
from opsin.models.torch_layers import Add, GlobalMaximum, activation


def build(recipe: ModelRecipe, shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """Build a whitening layer, a stage for each of ``recipe.hidden``, the maximum and Dense K.

    The first layer is fixed: its filters give patches of 2×2 pixels equal variance in every
    direction (see `opsin.models.statistics`). A stage is Conv 3×3, MaxPool 2, BatchNorm,
    activation, and a residual block of one convolution (He et al., "Deep residual learning for
    image recognition", CVPR 2016). The shape of the whole is after K. Jordan's cifar10-airbench
    ("94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498), made narrower. Pooling
    comes before BatchNorm and activation because on a CPU these are bound by memory, and so have
    a quarter of the values to move.

    Args:
        recipe: Filters of the stages, activation and dropout.
        shape: Height, width and channels of a picture.
        classes: K, the number of classes.

    Returns:
        The layers in order, the last one named ``head``.
    """
    height, width, channels = shape
    layers: dict[str, nn.Module] = {"whiten": nn.Conv2d(channels, 8 * channels, 2, bias=False)}
    layers[f"whiten_{recipe.activation}"] = activation(recipe.activation)
    channels *= 8
    side = min(height, width) - 1
    for number, filters in enumerate(recipe.hidden, start=1):
        layers[f"stage{number}"] = _stage(channels, filters, recipe.activation, halve=side > 1)
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


def _stage(channels: int, filters: int, name: Activation, *, halve: bool) -> nn.Sequential:
    """Conv 3×3 to another number of filters, at half the height and width if there is a half."""
    conv = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    if halve:
        layers["pool"] = nn.MaxPool2d(2)
    layers["norm"] = nn.BatchNorm2d(filters)
    layers[name] = activation(name)
    return nn.Sequential(layers)


class Residual(nn.Module):
    """A convolution whose result is added to what came in.

    Args:
        filters: Number of maps, in and out.
        name: The non-linearity.
    """

    def __init__(self, filters: int, name: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.act = activation(name)
        self.add = Add()

    def forward(self, maps: Tensor) -> Tensor:
        """Return ``float32[N, filters, H, W]``, the shape of ``maps``."""
        result: Tensor = self.add(maps, self.act(self.norm(self.conv(maps))))
        return result
