"""Keras's first weights, so that figures compare."""

from __future__ import annotations

from torch import nn


def glorot_uniform(module: nn.Module) -> None:
    """Draw all weights below ``module`` by Glorot's uniform rule; biases are zero.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010; the default of Keras's Dense and Conv2D.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
