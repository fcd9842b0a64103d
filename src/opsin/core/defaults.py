"""Default numbers, by purpose, optimiser and machine."""

from __future__ import annotations

import os
from typing import Final

#: How each kind of training image is varied; shifts are shares of the smaller side.
AUGMENTATIONS: Final[dict[str, dict[str, float]]] = {
    "none": {
        "flip": False, "shift": 0.0, "zoom": 0.0, "rotate": 0.0, "light": 0.0, "erase": 0.0,
        "crop": 0.0, "colour": 0.0, "mixup": 0.0,
    },
    "photos": {
        "flip": True, "shift": 1 / 16, "zoom": 0.0, "rotate": 0.0, "light": 0.0, "erase": 0.0,
        "crop": 0.0, "colour": 0.0, "mixup": 0.0,
    },
    # A page is photographed or scanned in any light, a little askew, never as its mirror image.
    "documents": {
        "flip": False, "shift": 1 / 32, "zoom": 0.05, "rotate": 3.0, "light": 0.2, "erase": 0.0,
        "crop": 0.0, "colour": 0.0, "mixup": 0.0,
    },
    # A mirrored or strongly turned sign is another sign.
    "symbols": {
        "flip": False, "shift": 1 / 16, "zoom": 0.1, "rotate": 8.0, "light": 0.0, "erase": 0.0,
        "crop": 0.0, "colour": 0.0, "mixup": 0.0,
    },
}  # fmt: skip

#: What goes with an optimiser that is not the network's own.
OPTIMIZERS: Final[dict[str, dict[str, float]]] = {
    "adam": {"rate": 2e-3, "momentum": 0.9},
    "adamw": {"rate": 1e-2, "momentum": 0.9},
    "sgd": {"rate": 0.1, "momentum": 0.9},
    "muon": {"rate": 0.1, "momentum": 0.6},
}
#: Where to compute, as a pattern: a word, some with the number of a device.
DEVICES: Final = r"auto|cpu|coreml|mps|(cuda|tensorrt|directml|openvino)(:[0-9]+)?"
#: The same in words.
DEVICE_WORDS: Final = (
    "auto, cpu, cuda, tensorrt, coreml or mps, directml, openvino; perhaps a number: cuda:1"
)


def cores() -> int:
    """Return how many cores this process may use; a container may allow fewer than there are."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1
