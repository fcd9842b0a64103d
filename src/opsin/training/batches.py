"""Batches of one part of the split, their order in an epoch, and weights of classes."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Generator, Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor

from opsin.core.arrays import Bools, Floats, Ints, Pixels
from opsin.core.recipe import TrainingRecipe
from opsin.data.lazy_images import Images
from opsin.training.process_group import ALONE, ProcessGroup

# Share of a GPU's free memory that images may take.
_SHARE: Final = 0.5
# Ratio of classes below which balancing gained nothing beyond chance and cost accuracy on images as
# unbalanced as the training's, and from which on the audit warns; an image drawn more often than
# this in an epoch was learnt by heart (docs/understand/measured.md).
_UNBALANCED: Final = 10
_MOST_REPEATS: Final = 15


class TrainingBatches:
    """Images and labels of the rows of one part, in batches that a group of processes shares."""

    def __init__(
        self,
        images: Images,
        labels: Ints,
        rows: Ints,
        device: torch.device,
        group: ProcessGroup = ALONE,
    ) -> None:
        self.images = images
        self.labels = labels[rows]
        self.rows = rows
        self.device = device
        self.group = group
        self._on_gpu: Tensor | None = None
        if device.type == "cuda" and isinstance(images, np.ndarray):
            free, _ = torch.cuda.mem_get_info(device)
            if len(rows) * images[0].nbytes < _SHARE * free:
                self._on_gpu = torch.from_numpy(images[rows]).to(device)

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, order: Ints, size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of each batch: images ``uint8[B, H, W, C]``, labels ``int64[B]``."""
        spans = spans_of(len(order), size, start, self.group.world)
        shares = [order[begin:end][self.group.share] for begin, end in spans]
        with contextlib.closing(self._images(shares)) as batches:
            for images, share in zip(batches, shares, strict=True):
                yield images.to(self.device), torch.from_numpy(self.labels[share]).to(self.device)

    def _images(self, shares: list[Ints]) -> Generator[Tensor]:
        if self._on_gpu is not None:
            for share in shares:
                yield self._on_gpu[torch.from_numpy(share).to(self.device)]
        elif isinstance(self.images, np.ndarray):
            for share in shares:
                yield torch.from_numpy(self.images[self.rows[share]])
        else:  # the next batch is decoded while one is in use
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                ahead: concurrent.futures.Future[Pixels] | None = None
                for share in shares:
                    read, ahead = ahead, pool.submit(self.images.__getitem__, self.rows[share])
                    if read is not None:
                        yield torch.from_numpy(read.result())
                if ahead is not None:
                    yield torch.from_numpy(ahead.result())


def spans_of(count: int, size: int, start: int = 0, world: int = 1) -> Iterator[tuple[int, int]]:
    """Start and end of each batch, all processes' shares together."""
    least = max(2, world)
    while start < count:
        end = min(start + size, count)
        if count - end < least:
            end = count
        yield start, end
        start = end


def with_balance(
    recipe: TrainingRecipe, labels: Ints, classes: int
) -> tuple[TrainingRecipe, dict[str, str]]:
    """Resolve ``balance="auto"``, whether rare classes count more, with the reason if they do."""
    if recipe.balance != "auto":
        return recipe, {}
    counts = np.bincount(labels, minlength=classes)
    counts = counts[counts > 0]
    ratio = counts.max() / counts.min() if len(counts) else 1.0
    if ratio < _UNBALANCED:
        return recipe.model_copy(update={"balance": "none"}), {}
    balance, why = "sampling", "rare classes are drawn more often"
    if (repeats := counts.mean() / counts.min()) > _MOST_REPEATS:
        often = f"drawn more often, their images would come {repeats:,.0f} times an epoch"
        balance, why = "weights", f"rare classes weigh more in the loss ({often})"
    reason = f"the largest class has {ratio:,.0f} times the images of the smallest: {why}"
    return recipe.model_copy(update={"balance": balance}), {"Balance": reason}


def epoch_order(labels: Ints, recipe: TrainingRecipe, epoch: int, classes: int) -> Ints:
    """The order of the training images in an epoch."""
    random = np.random.default_rng((recipe.seed, epoch))
    if recipe.balance != "sampling":
        return random.permutation(len(labels))
    ends = np.cumsum(np.bincount(labels, minlength=classes))[:-1]
    members = [rows for rows in np.split(np.argsort(labels, kind="stable"), ends) if len(rows)]
    # The places of all epochs are dealt to the classes in turn, so that a class may be one place
    # ahead of another and never more.
    before, after = (epoch - 1) * len(labels), epoch * len(labels)
    drawn = []
    for turn, rows in enumerate(members):
        first, last = (-((turn - places) // len(members)) for places in (before, after))
        drawn.append(rows[_of_passes(len(rows), first, last, recipe.seed, int(labels[rows[0]]))])
    return random.permutation(np.concatenate(drawn))


def _of_passes(size: int, first: int, last: int, seed: int, label: int) -> Ints:
    """The numbers from ``first`` to before ``last`` of endless passes over a class."""
    passes = [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(label, number))).permutation(
            size
        )
        for number in range(first // size, -(-last // size))
    ]
    skipped = first // size * size
    return np.concatenate(passes)[first - skipped : last - skipped]


def mirrored_in(epoch: int, recipe: TrainingRecipe, count: int) -> Bools:
    """The training images mirrored in an epoch: each one every other time, half at first."""
    # A spawn key keeps these numbers apart from those that shuffle the epochs.
    random = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(0,)))
    at_first: Bools = random.random(count) < 0.5
    return at_first ^ (epoch % 2 == 0)


def class_weights(labels: Ints, classes: int) -> Floats:
    """The weight of each class in the loss, 1 on average over the images."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32)
