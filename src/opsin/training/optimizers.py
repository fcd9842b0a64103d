"""Optimisers, Muon among them, and learning-rate schedules by name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from opsin.core.recipe import TrainingRecipe
from opsin.models.onnx_network import TorchNetwork

# AdamW's rate beside Muon's.
_BESIDE_MUON: Final = 0.2
# Groups of layers in fine-tuning, and the rate of each relative to the one behind it.
_DEPTHS: Final = 10
_SLOWER: Final = 0.8
# Coefficients and iterations of the quintic that drives all singular values towards 1.
_QUINTIC: Final = (3.4445, -4.7750, 2.0315)
_ROUNDS: Final = 5


class Muon(Optimizer):
    """Momentum whose update is made orthogonal, for convolutions that BatchNorm follows.

    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, as in
    K. Jordan's cifar10-airbench: a filter bank counts as a matrix of one row a filter, and is
    scaled to one fixed norm before each step, which BatchNorm makes up for, so that the rate alone
    says how far a step turns it. (PyTorch's own Muon takes matrices only.) With ``half``, steps are
    made orthogonal in bfloat16, whose error is small beside that of the method.
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
    def step(self) -> None:  # type: ignore[override]
        """Make one step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._turn(weight, weight.grad, group["lr"], group["momentum"])

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
    """The approximately nearest matrix with all singular values about 1."""
    one, three, five = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    iterate = ((matrix.T if tall else matrix) / (matrix.norm() + 1e-7)).to(products)
    for _ in range(_ROUNDS):
        square = iterate @ iterate.T
        iterate = one * iterate + (three * square + five * square @ square) @ iterate
    result: Tensor = (iterate.T if tall else iterate).float()
    return result


def make_optimizers(network: nn.Module, recipe: TrainingRecipe) -> list[tuple[Optimizer, float]]:
    """The optimisers of a recipe, each with its share of the recipe's rate."""
    if not isinstance(network, TorchNetwork):
        return _optimizers([p for p in network.parameters() if p.requires_grad], recipe)
    return [
        (optimizer, depth * share)
        for depth, learnt in by_depth(network)
        for optimizer, share in _optimizers(learnt, recipe)
    ]


def by_depth(network: TorchNetwork) -> list[tuple[float, list[nn.Parameter]]]:
    """The weights in groups, the first ones slowest, with shares of the rate (arXiv:1801.06146)."""
    learnt = list(network.learnt().values())
    count = min(_DEPTHS, len(learnt))
    ends = [round(len(learnt) * group / count) for group in range(count + 1)]
    return [
        (_SLOWER ** (count - 1 - group), learnt[start:end])
        for group, (start, end) in enumerate(itertools.pairwise(ends))
    ]


def _optimizers(
    learnt: list[nn.Parameter], recipe: TrainingRecipe
) -> list[tuple[Optimizer, float]]:
    rate, betas = recipe.learning_rate, (recipe.momentum, 0.999)
    weights = [p for p in learnt if p.ndim > 1]
    others = [p for p in learnt if p.ndim <= 1]
    groups, momentum = _groups(weights, others, recipe.weight_decay), recipe.momentum
    match recipe.optimizer:
        case "adam":  # with Keras's epsilon
            return [(torch.optim.Adam(groups, rate, betas, eps=1e-7, fused=True), 1.0)]
        case "adamw":
            return [(torch.optim.AdamW(groups, rate, betas, fused=True), 1.0)]
        case "sgd":
            nesterov = momentum > 0
            return [(torch.optim.SGD(groups, rate, momentum, nesterov=nesterov, fused=True), 1.0)]
    filters = [p for p in weights if p.ndim == 4]
    rest = [p for p in weights if p.ndim != 4]
    made: list[tuple[Optimizer, float]] = []
    if filters:
        half = recipe.precision == "bfloat16"
        made.append((Muon(filters, rate, recipe.momentum, half=half), 1.0))
    if rest or others:
        groups = _groups(rest, others, recipe.weight_decay)
        made.append((torch.optim.AdamW(groups, rate, fused=True), _BESIDE_MUON))
    return made


def _groups(
    weights: list[nn.Parameter], others: list[nn.Parameter], decay: float
) -> list[dict[str, list[nn.Parameter] | float]]:
    if not decay:  # each group costs a call of its own
        return [{"params": weights + others, "weight_decay": 0.0}]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def rate_at(recipe: TrainingRecipe, progress: float) -> float:
    """The learning rate after a share ``progress`` of all steps."""
    match recipe.schedule:
        case "constant":
            factor = 1.0
        case "cosine":
            factor = (1 + math.cos(math.pi * progress)) / 2
        case "one-cycle":
            rise = 0.25
            if progress < rise:
                factor = 0.04 + 0.96 * progress / rise
            else:
                factor = (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2
        case "step":
            factor = 0.1 ** ((progress >= 0.5) + (progress >= 0.75))
    return recipe.learning_rate * factor
