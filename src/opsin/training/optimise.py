"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from opsin.recipe import TrainingRecipe


def make_optimizer(network: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """Return the optimiser that the recipe names.

    Weight decay acts on weights only: biases and BatchNorm's scales are left alone, as is usual.
    """
    weights = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if not recipe.weight_decay:  # each group costs a call of its own
        groups = [{"params": weights + others, "weight_decay": 0.0}]
    betas = (recipe.momentum, 0.999)
    match recipe.optimizer:
        case "adam":
            # Keras's epsilon.
            return torch.optim.Adam(groups, recipe.rate, betas, eps=1e-7, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, recipe.rate, betas, fused=True)
        case "sgd":
            return torch.optim.SGD(
                groups,
                recipe.rate,
                recipe.momentum,
                nesterov=recipe.momentum > 0,
                fused=True,
            )


def rate_at(recipe: TrainingRecipe, progress: float) -> float:
    """Return the learning rate when a share ``progress`` of all steps is done.

    One-cycle rises linearly to the peak over the first quarter and falls to zero by a half cosine
    (Smith and Topin, "Super-convergence", arXiv:1708.07120).

    Example:
        >>> from opsin.recipe import DataRecipe, resolve
        >>> recipe = resolve(DataRecipe.of("digits"), rate=0.4, schedule="step").training
        >>> [round(rate_at(recipe, done), 3) for done in (0.0, 0.5, 0.75)]
        [0.4, 0.04, 0.004]
    """
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
    return recipe.rate * factor
