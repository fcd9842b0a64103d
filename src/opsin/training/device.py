"""Devices, precision and threads of a training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

import torch

from opsin.core.errors import RecipeError
from opsin.core.metadata import Layer
from opsin.core.recipe import Device, Precision, TrainingRecipe

# Words of ONNX Runtime for the GPU that PyTorch trains on; it cannot use the others.
_AS_PYTORCH: Final = {"tensorrt": "cuda", "coreml": "mps", "directml": "cpu", "openvino": "cpu"}
# Multiply-adds of a step from which a second thread pays, and bfloat16.
_LARGE: Final = 100_000_000


def choose_device(name: Device) -> torch.device:
    """The device of a recipe; ``auto`` takes the fastest."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there["cpu"] = True
    if name == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    kind, _, number = name.partition(":")
    kind = _AS_PYTORCH.get(kind, kind)
    if not there[kind] or (kind == "cuda" and int(number or 0) >= torch.cuda.device_count()):
        raise RecipeError(
            f"PyTorch {torch.__version__} sees no {name} here",
            "Leave --device out, or install PyTorch's build for your GPU.",
        )
    return torch.device(f"{kind}:{number}" if number and kind == "cuda" else kind)


def has_quick_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 faster than of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Read from the processor by PyTorch's build for x86; without oneDNN nothing would use it.
    with_products = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    abilities = torch.cpu.get_capabilities() if device.type == "cpu" and with_products else {}
    return bool(abilities.get("amx_bf16", False))


def work_of(training: TrainingRecipe, layers: Sequence[Layer]) -> int:
    """Multiply-adds of one forward pass over a batch."""
    return training.batch_size * sum(layer.multiply_adds for layer in layers)


def choose_precision(name: Precision, multiply_adds: int, device: torch.device) -> Precision:
    """The precision of a training; ``auto`` takes the faster."""
    if name != "auto":
        return name
    return "bfloat16" if multiply_adds >= _LARGE and has_quick_bfloat16(device) else "float32"


@contextlib.contextmanager
def threads_for(multiply_adds: int) -> Iterator[None]:
    """The threads that a step of training can use."""
    before = torch.get_num_threads()
    if multiply_adds < _LARGE:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def isolated_rng(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Random state of a training, which leaves the caller's untouched."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def describe_device(device: torch.device) -> str:
    """A device in words: ``CPU, 2 threads``."""
    if device.type == "cuda":
        return f"GPU, {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "GPU of this Mac"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
