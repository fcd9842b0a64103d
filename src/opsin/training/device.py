"""The device of a training, its precision, threads and memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Final

import torch

from opsin.core.errors import RecipeError
from opsin.core.format import counted, file_size
from opsin.core.metadata import Layer
from opsin.core.platform import memory_left
from opsin.core.recipe import Device, Precision, Recipe, TrainingRecipe

# Words of ONNX Runtime for the GPU that PyTorch trains on; it cannot use the others.
_AS_PYTORCH: Final = {"tensorrt": "cuda", "coreml": "mps", "directml": "cpu", "openvino": "cpu"}
# Multiply-adds of a step from which a second thread pays, and bfloat16.
_LARGE: Final = 100_000_000
# PyTorch, its threads and its allocator's reserve; a GPU's context and libraries.
_BASE: Final = {"cpu": 140_000_000, "gpu": 700_000_000}
# The libraries of the export, the evaluation and the report, once the training is over.
_AFTERWARDS: Final = 200_000_000
# Bytes for each number of a layer's output while training and validating, measured on a CPU
# (tests/training/test_memory.py), and while fine-tuning, whose layers hold several operators each.
_TRAINING, _VALIDATING, _FINE_TUNING = 6.0, 2.2, 32.0
_FLOAT: Final = 4
_MOMENTS: Final = {"adam": 2, "adamw": 2, "sgd": 1, "muon": 1}
# Pixels of a validation batch, so that large images take no more memory than small ones.
_VAL_PIXELS: Final = 500_000
# Images computed at once below which halving saves little and costs much.
_SMALLEST_PART: Final = 8
# Share of a GPU's free memory that images may take (`opsin.training.batches`).
_GPU_SHARE: Final = 0.5


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
    return f"CPU, {counted(torch.get_num_threads(), 'thread')}"


def estimate(recipe: Recipe, layers: Sequence[Layer], *, gpu: bool = False) -> int:
    """The most bytes of a training, from the shapes of the layers alone."""
    training = recipe.training
    numbers = sum(math.prod(layer.shape) for layer in layers)
    validated = validation_batch(*layers[0].shape[1:])
    at_once = _at_once(training)
    # The whole batch is varied before a part of it is computed.
    varied = 2 * _FLOAT * (training.batch_size - at_once) * math.prod(layers[0].shape)
    batch = max(_TRAINING * at_once * numbers + varied, _VALIDATING * validated * numbers)
    # Gradients and moments; on a CPU twice more while a checkpoint is written.
    copies = (1 + _MOMENTS[training.optimizer]) * (1 if gpu else 3) + gpu
    weights = _FLOAT * copies * sum(layer.trainable for layer in layers)
    if gpu:
        return int(_BASE["gpu"] + weights + batch)
    return max(_AFTERWARDS, int(_BASE["cpu"] + weights + batch))


def _at_once(training: TrainingRecipe) -> int:
    return min(training.batch_size, training.micro_batch or training.batch_size)


def validation_batch(height: int, width: int) -> int:
    """The number of images in a validation batch."""
    return max(8, _VAL_PIXELS // (height * width))


def fit_memory(
    recipe: Recipe,
    layers: Sequence[Layer],
    *,
    device: torch.device,
    image_bytes: int = 0,
    fixed: bool = False,
) -> tuple[Recipe, str | None]:
    """Halve the micro-batch until the training fits into the memory."""
    # Another one makes other weights: what is resumed, or has its own, is refused instead.
    fixed = fixed or recipe.training.micro_batch is not None
    gpu, free, fitted = device.type != "cpu", available(device), recipe
    if gpu and image_bytes < _GPU_SHARE * free:
        free -= image_bytes
    while (need := estimate(fitted, layers, gpu=gpu)) > free:
        if fixed or _at_once(fitted.training) <= _SMALLEST_PART:
            raise RecipeError(
                f"This training needs about {file_size(need)} of memory, and {file_size(free)} "
                "are free",
                "Close other programs, or give a smaller --micro-batch, fewer --hidden units or a "
                "smaller --size.",
            )
        part = max(_SMALLEST_PART, _at_once(fitted.training) // 2)
        fitted = recipe.with_training(micro_batch=part)
    if fitted is recipe:
        return recipe, None
    return fitted, (
        f"batches of {recipe.training.batch_size} are computed {fitted.training.micro_batch} "
        f"images at a time: at once they would need about "
        f"{file_size(estimate(recipe, layers, gpu=gpu))} of memory, and {file_size(free)} are free"
    )


def fine_tuned_at_once(training: TrainingRecipe, layers: Sequence[Layer]) -> int:
    """The largest micro-batch of a fine-tuning that fits into the memory."""
    an_image, free = _FINE_TUNING * sum(math.prod(layer.shape) for layer in layers), memory_left()
    size = training.micro_batch or training.batch_size
    while size > _SMALLEST_PART and size * an_image > free:
        size //= 2
    return size


def available(device: torch.device) -> int:
    """The bytes that a training may still take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return memory_left()  # of a Mac's GPU, too
