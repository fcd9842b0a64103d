"""The numbers that nobody asked for: by network, purpose and machine."""

from __future__ import annotations

import os
from typing import Any, Final

#: What a user gets who gives only the model's name. The networks of the tutorials keep Keras's
#: optimiser; the schedules and rates were tuned on validation data (docs/performance.md).
DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "mlp": {
        "hidden": (128,), "dropout": 0.0, "epochs": 10, "batch_size": 128, "optimizer": "adam",
        "rate": 3e-3, "schedule": "one-cycle", "weight_decay": 0.0, "label_smoothing": 0.0,
        "augment": "none",
    },
    "cnn": {
        "hidden": (32, 64, 128), "dropout": 0.5, "epochs": 10, "batch_size": 32,
        "optimizer": "adam", "rate": 2e-3, "schedule": "one-cycle", "weight_decay": 0.0,
        "label_smoothing": 0.0, "augment": "photos", "shift": 0,
    },
    "resnet": {
        "hidden": (48, 96, 192), "activation": "gelu", "dropout": 0.0, "epochs": 20,
        "batch_size": 512, "optimizer": "muon", "rate": 0.1, "momentum": 0.6,
        "schedule": "one-cycle", "weight_decay": 0.05, "label_smoothing": 0.1, "augment": "photos",
        "erase": 0.25,
    },
}  # fmt: skip

#: How each kind of training picture is varied; shifts are shares of the smaller side.
AUGMENTATIONS: Final[dict[str, dict[str, Any]]] = {
    "none": {
        "flip": False, "shift": 0.0, "zoom": 0.0, "rotate": 0.0, "light": 0.0, "erase": 0.0,
    },
    "photos": {
        "flip": True, "shift": 1 / 16, "zoom": 0.0, "rotate": 0.0, "light": 0.0, "erase": 0.0,
    },
    # A page is photographed or scanned in any light, a little askew, never as its mirror image.
    "documents": {
        "flip": False, "shift": 1 / 32, "zoom": 0.05, "rotate": 3.0, "light": 0.2, "erase": 0.0,
    },
    # A mirrored or strongly turned sign is another sign.
    "symbols": {
        "flip": False, "shift": 1 / 16, "zoom": 0.1, "rotate": 8.0, "light": 0.0, "erase": 0.0,
    },
}  # fmt: skip

#: What goes with an optimiser that is not the network's own.
OPTIMIZERS: Final[dict[str, dict[str, Any]]] = {
    "adam": {"rate": 2e-3, "momentum": 0.9},
    "adamw": {"rate": 1e-2, "momentum": 0.9},
    "sgd": {"rate": 0.1, "momentum": 0.9},
    "muon": {"rate": 0.1, "momentum": 0.6},
}


def cores() -> int:
    """Return how many cores this process may use; a container may allow fewer than there are.

    Example:
        >>> cores() >= 1
        True
    """
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1
