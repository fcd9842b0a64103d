"""The few layers that PyTorch lacks, and Keras's initial weights."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from opsin.core.recipe import Activation

#: Makes a fresh non-linearity.
ACTIVATIONS: Final[dict[Activation, type[nn.Module]]] = {
    "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh,
}  # fmt: skip


class Normalise(nn.Module):
    """``uint8[N, H, W, C]`` to ``float32[N, C, H, W]`` with mean 0 and deviation 1 a channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: list[float], deviation: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise; the permuted result lies in memory as channels-last convolutions like it."""
        return ((images.float() - self.mean) / self.deviation).permute(0, 3, 1, 2)


class Add(nn.Module):
    """The sum where a residual block's two ways meet."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Add two tensors of one shape."""
        return left + right


class GlobalMaximum(nn.Module):
    """``[N, C, H, W]`` to ``[N, C]``: the largest value of each map."""

    def forward(self, maps: Tensor) -> Tensor:
        """Take each map's maximum."""
        return maps.amax(dim=(2, 3))


class Residual(nn.Module):
    """A convolution whose result is added to what came in, ``float32[N, filters, H, W]``."""

    def __init__(self, filters: int, name: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.act = ACTIVATIONS[name]()
        self.add = Add()

    def forward(self, maps: Tensor) -> Tensor:
        """The sum."""
        result: Tensor = self.add(maps, self.act(self.norm(self.conv(maps))))
        return result


def glorot_uniform(module: nn.Module) -> None:
    """Draw all weights below ``module`` by Glorot's uniform rule, as Keras; biases are zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
