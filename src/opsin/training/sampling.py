"""Which images an epoch shows, and how much each class counts."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from opsin.core.arrays import Bools, Floats, Ints
from opsin.core.recipe import TrainingRecipe

# Below this ratio, evening out gained nothing beyond chance and cost accuracy
# on images as unbalanced as the training's; an image that was drawn more often than this in
# an epoch was learnt by heart (docs/understand/measured.md). The audit warns from the
# same ratio on.
_UNBALANCED: Final = 10
_MOST_REPEATS: Final = 15
# Lanes that an epoch in shards reads side by side. So many are shared evenly by 2, 3, 4, 6, 8, 12,
# 16, 24 or 48 processes, and images sorted by class are mixed even before any buffer.
_LANES: Final = 48
# Images of a shard, read in one go: 3 MB of 64×64 in colour.
_SHARD: Final = 256


def choose_balance(
    counts: Ints, *, in_shards: bool = False
) -> tuple[Literal["none", "weights", "sampling"], str]:
    """Decide how ``balance="auto"`` makes up for rare classes, and say why."""
    counts = counts[counts > 0]
    if not len(counts) or counts.min() == counts.max():
        return "none", "all classes have as many images"
    ratio = counts.max() / counts.min()
    size = f"{ratio:,.0f}" if ratio >= _UNBALANCED else f"{ratio:.1f}"
    what = f"the largest class has {size} times the images of the smallest"
    if ratio < _UNBALANCED:
        return "none", f"{what}: too little to make up for"
    repeats = counts.mean() / counts.min()
    why = f"drawn more often, their images would come {repeats:,.0f} times an epoch"
    if in_shards:
        why = "with a shuffle buffer each image comes once an epoch"
    elif repeats <= _MOST_REPEATS:
        return "sampling", f"{what}: rare classes are drawn more often"
    return "weights", f"{what}: rare classes weigh more in the loss ({why})"


def epoch_order(labels: Ints, recipe: TrainingRecipe, epoch: int, classes: int) -> Ints:
    """Return the places of the training images in the order in which an epoch shows them."""
    random = np.random.default_rng((recipe.seed, epoch))
    if recipe.shuffle_buffer is not None:
        return order_in_shards(len(labels), recipe.shuffle_buffer, random)
    if recipe.balance != "sampling":
        return random.permutation(len(labels))
    ends = np.cumsum(np.bincount(labels, minlength=classes))[:-1]
    members = [own for own in np.split(np.argsort(labels, kind="stable"), ends) if len(own)]
    # The places of all epochs are dealt to the classes in turn, so that a class may be one place
    # ahead of another and never more.
    before, after = (epoch - 1) * len(labels), epoch * len(labels)
    drawn = []
    for turn, own in enumerate(members):
        first, last = (-((turn - places) // len(members)) for places in (before, after))
        drawn.append(own[_of_passes(len(own), first, last, recipe.seed, int(labels[own[0]]))])
    return random.permutation(np.concatenate(drawn))


def order_in_shards(
    count: int, buffer: int, random: np.random.Generator, lanes: int = _LANES
) -> Ints:
    """Return the order of an epoch that is read shard by shard."""
    order = np.empty(count, np.int64)
    window, start = buffer // lanes, 0
    for lane in range(lanes):
        size = len(range(lane, count, lanes))
        shards = [
            np.arange(begin, min(begin + _SHARD, start + size))
            for begin in range(start, start + size, _SHARD)
        ]
        places = [shards[number] for number in random.permutation(len(shards))]
        shown = np.concatenate(places) if places else np.empty(0, np.int64)
        for begin in range(0, size, window):
            random.shuffle(shown[begin : begin + window])
        order[lane::lanes] = shown
        start += size
    return order


def read_at_once(recipe: TrainingRecipe) -> int | None:
    """Return how many images of an epoch's order are neighbours, to be read together."""
    buffer = recipe.shuffle_buffer
    return None if buffer is None else buffer - buffer % _LANES


def mirrored_in(epoch: int, recipe: TrainingRecipe, count: int) -> Bools:
    """Tell which training images an epoch mirrors: each one every other time, half at first."""
    # A spawn key keeps these numbers apart from those that shuffle the epochs.
    random = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(0,)))
    at_first: Bools = random.random(count) < 0.5
    return at_first ^ (epoch % 2 == 0)


def _of_passes(size: int, first: int, last: int, seed: int, label: int) -> Ints:
    """Return the numbers from ``first`` to before ``last`` of endless passes over a class."""
    passes = [
        # A spawn key keeps these numbers apart from those that shuffle the epochs.
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(label, number)))
        .permutation(size)
        for number in range(first // size, -(-last // size))
    ]  # fmt: skip
    skipped = first // size * size
    return np.concatenate(passes)[first - skipped : last - skipped]


def class_weights(labels: Ints, classes: int) -> Floats:
    """Return the weight of each class in the loss, 1 on average over the images."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32)
