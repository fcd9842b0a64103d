"""Where the arithmetic is done."""

from __future__ import annotations

import torch

from opsin.errors import RecipeError
from opsin.recipe import Device


def choose_device(name: Device) -> torch.device:
    """Return the device that a recipe names; ``auto`` takes the fastest there is.

    Raises:
        RecipeError: This machine, or this build of PyTorch, has no such device.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    if not there[name]:
        raise RecipeError(
            f"a machine with {name}",
            f"PyTorch {torch.__version__} sees none here",
            "Leave --device out, or install PyTorch's build for your GPU.",
        )
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Name a device as a person would: ``CPU, 2 threads``."""
    if device.type == "cuda":
        return f"GPU, {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "GPU of this Mac"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
