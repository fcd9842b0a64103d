"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import itertools
import math
from typing import Final

import torch
from torch import nn

from opsin.core.recipe import TrainingRecipe
from opsin.models.onnx_network import TorchNetwork
from opsin.training.muon import Muon

# AdamW's rate beside Muon's.
_BESIDE_MUON: Final = 0.2
# Groups of layers that are fine-tuned, and the rate of each relative to the one behind it.
_DEPTHS: Final = 10
_SLOWER: Final = 0.8


def make_optimizers(
    network: nn.Module, recipe: TrainingRecipe
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return the optimisers that the recipe names, each with its share of the recipe's rate."""
    if not isinstance(network, TorchNetwork):
        return _optimizers([p for p in network.parameters() if p.requires_grad], recipe)
    return [
        (optimizer, depth * share)
        for depth, learnt in by_depth(network)
        for optimizer, share in _optimizers(learnt, recipe)
    ]


def by_depth(network: TorchNetwork) -> list[tuple[float, list[nn.Parameter]]]:
    """Return what a network learns in groups, the first layers first, with shares of the rate.

    J. Howard and S. Ruder, "Universal language model fine-tuning for text classification", ACL
    2018: each group learns slower than the one behind it; the last holds the head.
    """
    learnt = list(network.learnt().values())
    count = min(_DEPTHS, len(learnt))
    ends = [round(len(learnt) * group / count) for group in range(count + 1)]
    return [
        (_SLOWER ** (count - 1 - group), learnt[start:end])
        for group, (start, end) in enumerate(itertools.pairwise(ends))
    ]


def _optimizers(
    learnt: list[nn.Parameter], recipe: TrainingRecipe
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return the optimisers of some parameters."""
    weights = [p for p in learnt if p.ndim > 1]
    others = [p for p in learnt if p.ndim <= 1]
    if recipe.optimizer != "muon":
        return [(_plain(weights, others, recipe), 1.0)]
    filters = [p for p in weights if p.ndim == 4]
    rest = [p for p in weights if p.ndim != 4]
    groups = _groups(rest, others, recipe.weight_decay)
    half = recipe.precision == "bfloat16"
    found: list[tuple[torch.optim.Optimizer, float]] = []
    if filters:
        found.append((Muon(filters, recipe.learning_rate, recipe.momentum, half=half), 1.0))
    if rest or others:
        found.append((torch.optim.AdamW(groups, recipe.learning_rate, fused=True), _BESIDE_MUON))
    return found


def _plain(
    weights: list[nn.Parameter], others: list[nn.Parameter], recipe: TrainingRecipe
) -> torch.optim.Optimizer:
    groups = _groups(weights, others, recipe.weight_decay)
    betas = (recipe.momentum, 0.999)
    if recipe.optimizer == "adam":
        # Keras's epsilon.
        return torch.optim.Adam(groups, recipe.learning_rate, betas, eps=1e-7, fused=True)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, recipe.learning_rate, betas, fused=True)
    nesterov = recipe.momentum > 0
    return torch.optim.SGD(
        groups, recipe.learning_rate, recipe.momentum, nesterov=nesterov, fused=True
    )


def _groups(
    weights: list[nn.Parameter], others: list[nn.Parameter], decay: float
) -> list[dict[str, list[nn.Parameter] | float]]:
    if not decay:  # each group costs a call of its own
        return [{"params": weights + others, "weight_decay": 0.0}]
    return [
        {"params": weights, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]


def rate_at(recipe: TrainingRecipe, progress: float) -> float:
    """Return the learning rate when a share ``progress`` of all steps is done."""
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
