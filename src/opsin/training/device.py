"""Where the arithmetic is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import torch

from opsin.errors import RecipeError
from opsin.recipe import Device

# Multiply-adds of a step from which a second thread pays.
_SHARED: Final = 100_000_000


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


@contextlib.contextmanager
def threads_for(multiply_adds: int) -> Iterator[None]:
    """Give a step of training the threads that it can use.

    Threads that share too little work wait for each other most of the time: with a second one,
    the tutorials' dense network took 1.2 times as long on two idle cores, and 6 to 25 times where
    other programs ran.

    Args:
        multiply_adds: Of one forward pass over a batch.
    """
    before = torch.get_num_threads()
    if multiply_adds < _SHARED:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_device(device: torch.device) -> str:
    """Name a device as a person would: ``CPU, 2 threads``."""
    if device.type == "cuda":
        return f"GPU, {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "GPU of this Mac"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
