"""How much memory a training needs, and how much there is."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from opsin.core.errors import RecipeError
from opsin.core.format import file_size
from opsin.core.metadata import Layer, LayerOp
from opsin.core.platform import memory_left
from opsin.core.recipe import Recipe

# Bytes of a float32.
_FLOAT: Final = 4
# What PyTorch, its threads and its compiled convolutions take when the first batch runs; what the
# libraries for the export, the evaluation and the report take after the training.
_BASE: Final = 110_000_000
_AFTERWARDS: Final = 200_000_000
# A GPU's context and the libraries that are loaded into it.
_GPU_BASE: Final = 700_000_000
# Copies of all weights that an optimiser keeps, and copies of both that a checkpoint makes.
_CHECKPOINT: Final = 2
_MOMENTS: Final = {"adam": 2, "adamw": 2, "sgd": 1, "muon": 1}
# Layers whose backward needs what came in, and those whose backward needs what went out.
_KEEP_INPUT: Final = frozenset((
    LayerOp.CONV, LayerOp.BATCH_NORM, LayerOp.MAX_POOL, LayerOp.DENSE, LayerOp.GELU, LayerOp.SILU
))  # fmt: skip
_KEEP_OUTPUT: Final = frozenset((LayerOp.RELU, LayerOp.TANH))
# Of the two largest neighbouring tensors: gradients and copies that live for a moment while
# training; the same while validating; what the allocator keeps in hand then; and the share of the
# training's memory that it still holds. Measured on a CPU (tests/training/test_memory.py).
_BRIEFLY, _VALIDATING, _IN_HAND, _STILL_HELD = 1.5, 1.8, 32_000_000, 0.5
# Of a batch's images as floats, while it is varied: their bytes, and what turning takes.
_VARYING: Final = 2
# How often a shuffle buffer is in memory: in use, and being read for the time after that.
_HELD: Final = 2
# Pixels of a validation batch, so that large images take no more memory than small ones.
_VAL_PIXELS: Final = 500_000
# Images computed at once below which halving saves little and costs much.
_SMALLEST_PART: Final = 8
# Share of a GPU's free memory that images may take (`opsin.training.batches`).
_GPU_SHARE: Final = 0.5


@dataclass(frozen=True)
class Need:
    """Bytes that a training takes beyond what the process has already."""

    base: int  # PyTorch and the other libraries
    weights: int  # gradients and the optimiser's state
    checkpoint: int  # what is there while a checkpoint is written
    batch: int  # what forward leaves for backward, and what is there for a moment
    validation: int  # a batch of validation images on its way through the network
    afterwards: int  # export, evaluation and report, when the training's own memory is free again

    @property
    def total(self) -> int:
        """The most at one time, in bytes."""
        between = int(_STILL_HELD * self.batch) + max(self.validation, self.checkpoint)
        working = max(self.batch, between)
        return max(self.base + self.weights + working, self.afterwards)


def estimate(recipe: Recipe, layers: Sequence[Layer], *, gpu: bool = False) -> Need:
    """Estimate what a training takes, from the layers' shapes alone."""
    sizes = [_FLOAT * math.prod(layer.shape) for layer in layers]
    kept = 0
    for number, (layer, size) in enumerate(zip(layers, sizes, strict=True)):
        following = layers[number + 1].op if number + 1 < len(layers) else None
        if layer.op in _KEEP_OUTPUT or following in _KEEP_INPUT:
            kept += size if layer.op is not LayerOp.FLATTEN else 0  # a view
        if layer.op is LayerOp.MAX_POOL:
            kept += 2 * size  # where each maximum was, as int64
        if layer.op is LayerOp.DROPOUT:
            kept += size
    # The pixels exist as bytes, as varied bytes, and as floats before and after they are scaled.
    kept += 2 * sizes[0]
    pair = max(size + (sizes[number - 1] if number else 0) for number, size in enumerate(sizes))
    training = recipe.training
    validated = validation_batch(*layers[0].shape[1:])
    at_once = min(training.batch_size, training.micro_batch or training.batch_size)
    trainable = _FLOAT * sum(layer.trainable for layer in layers)
    moments = _MOMENTS[training.optimizer]
    return Need(
        base=_GPU_BASE if gpu else _BASE,
        # A GPU is yet to get the weights themselves; checkpoints are made outside of it.
        weights=trainable * (1 + moments + gpu),
        checkpoint=0 if gpu else trainable * _CHECKPOINT * (1 + moments),
        # The whole batch is varied before a part of it is computed.
        batch=int(
            at_once * (kept + _BRIEFLY * pair)
            + (training.batch_size - at_once) * _VARYING * sizes[0]
        ),
        validation=int(_VALIDATING * validated * pair) + _IN_HAND,
        afterwards=0 if gpu else _AFTERWARDS,
    )


def validation_batch(height: int, width: int) -> int:
    """Return how many images of a size are validated at once."""
    return max(8, _VAL_PIXELS // (height * width))


def fit_memory(
    recipe: Recipe,
    layers: Sequence[Layer],
    *,
    device: torch.device,
    images: int = 0,
    processes: int = 1,
    given: Collection[str] = (),
    free: int | None = None,
) -> tuple[Recipe, str | None]:
    """Make a training fit into the memory: by batches that are computed in several parts."""
    free = available(device) if free is None else free
    gpu = device.type != "cpu"
    if gpu and images < _GPU_SHARE * free:
        free -= images
    buffer = recipe.training.shuffle_buffer
    if buffer is not None and not gpu:
        held = _HELD * min(images, buffer * math.prod(layers[0].shape)) // processes
        if held > free / 2:
            raise RecipeError(
                f"a shuffle buffer that takes at most half of the free memory ({file_size(free)})",
                f"{buffer:,} images take {file_size(held)}",
                "Give a smaller --shuffle-buffer.",
            )
        free -= held
    need = estimate(recipe, layers, gpu=gpu)
    if need.total <= free:
        return recipe, None
    smaller = next(
        (less for less in _halved(recipe) if estimate(less, layers, gpu=gpu).total <= free), None
    )
    if smaller is None or "micro_batch" in given:
        raise RecipeError(
            f"about {file_size(need.total)} of free memory for this training",
            f"there are {file_size(free)}",
            _advice(need, smaller, gpu=gpu),
        )
    return smaller, (
        f"batches of {recipe.training.batch_size} are computed {smaller.training.micro_batch} "
        f"images at a time: at once they would need about {file_size(need.total)} of memory, and "
        f"{file_size(free)} are free"
    )


def _halved(recipe: Recipe) -> Iterator[Recipe]:
    """Yield the recipe whose batches are computed by halves, by quarters …."""
    part = recipe.training.micro_batch or recipe.training.batch_size
    while part > _SMALLEST_PART:
        part = max(_SMALLEST_PART, part // 2)
        yield recipe.with_training(micro_batch=part)


def _advice(need: Need, smaller: Recipe | None, *, gpu: bool) -> str:
    elsewhere = ", or --device cpu" if gpu else ", or close other programs"
    if smaller is not None:
        return f"Give --micro-batch {smaller.training.micro_batch}, a smaller --size{elsewhere}."
    largest = max(
        ("weights", "checkpoint", "batch", "validation"), key=lambda part: getattr(need, part)
    )
    if largest == "batch":
        return f"Give a smaller --batch-size or --size, fewer --hidden units{elsewhere}."
    return f"Give fewer --hidden units or a smaller --size{elsewhere}."


def available(device: torch.device) -> int:
    """Return how many bytes a training may still take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        taken = torch.mps.driver_allocated_memory()
        return max(0, min(memory_left(), torch.mps.recommended_max_memory() - taken))
    return memory_left()
