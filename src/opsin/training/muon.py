"""Muon: convolutions learn by steps that are orthogonal matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Of the quintic that drives all singular values towards 1, and how often it is applied.
_QUINTIC: Final = (3.4445, -4.7750, 2.0315)
_ROUNDS: Final = 5


class Muon(Optimizer):
    """Momentum whose update is made orthogonal, for convolutions that BatchNorm follows.

    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, as in
    K. Jordan's cifar10-airbench: a filter bank counts as a matrix of one row a filter, and is
    scaled to one fixed norm before each step, which BatchNorm makes up for, so that the rate alone
    says how far a step turns it. (PyTorch's own Muon takes matrices only.)

    Args:
        parameters: Weights of convolutions, ``float32[O, I, H, W]``.
        rate: Length of a step, with filter banks of norm √O.
        momentum: Nesterov's.
        half: Make steps orthogonal in bfloat16, whose error is small beside that of the method.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        rate: float,
        momentum: float = 0.6,
        *,
        half: bool = False,
    ) -> None:
        super().__init__(parameters, {"lr": rate, "momentum": momentum})
        self._products = torch.bfloat16 if half else torch.float32

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._turn(weight, weight.grad, group["lr"], group["momentum"])
        return loss

    def _turn(self, weight: nn.Parameter, gradient: Tensor, rate: float, share: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        momentum.mul_(share).add_(gradient)
        towards = torch.add(gradient, momentum, alpha=share)
        weight.mul_(len(weight) ** 0.5 / weight.norm().clamp_min(1e-12))
        matrix = towards.reshape(len(weight), -1)
        step = orthogonal(matrix, self._products).reshape(weight.shape)
        weight.add_(step, alpha=-rate)


def orthogonal(matrix: Tensor, products: torch.dtype = torch.float32) -> Tensor:
    """Return about the nearest matrix whose singular values are all equal, about 1."""
    one, three, five = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    found = ((matrix.T if tall else matrix) / (matrix.norm() + 1e-7)).to(products)
    for _ in range(_ROUNDS):
        square = found @ found.T
        found = one * found + (three * square + five * square @ square) @ found
    result: Tensor = (found.T if tall else found).float()
    return result
