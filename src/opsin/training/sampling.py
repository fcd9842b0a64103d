"""Images of an epoch, and weights of classes."""

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


def choose_balance(counts: Ints) -> tuple[Literal["none", "weights", "sampling"], str]:
    """Resolve ``balance="auto"``, with the reason."""
    counts = counts[counts > 0]
    if not len(counts) or counts.min() == counts.max():
        return "none", "all classes have as many images"
    ratio = counts.max() / counts.min()
    size = f"{ratio:,.0f}" if ratio >= _UNBALANCED else f"{ratio:.1f}"
    what = f"the largest class has {size} times the images of the smallest"
    if ratio < _UNBALANCED:
        return "none", f"{what}: too little to make up for"
    repeats = counts.mean() / counts.min()
    if repeats <= _MOST_REPEATS:
        return "sampling", f"{what}: rare classes are drawn more often"
    why = f"drawn more often, their images would come {repeats:,.0f} times an epoch"
    return "weights", f"{what}: rare classes weigh more in the loss ({why})"


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


def mirrored_in(epoch: int, recipe: TrainingRecipe, count: int) -> Bools:
    """The training images mirrored in an epoch: each one every other time, half at first."""
    # A spawn key keeps these numbers apart from those that shuffle the epochs.
    random = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(0,)))
    at_first: Bools = random.random(count) < 0.5
    return at_first ^ (epoch % 2 == 0)


def _of_passes(size: int, first: int, last: int, seed: int, label: int) -> Ints:
    """The numbers from ``first`` to before ``last`` of endless passes over a class."""
    passes = [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(label, number)))
        .permutation(size)
        for number in range(first // size, -(-last // size))
    ]  # fmt: skip
    skipped = first // size * size
    return np.concatenate(passes)[first - skipped : last - skipped]


def class_weights(labels: Ints, classes: int) -> Floats:
    """The weight of each class in the loss, 1 on average over the images."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32)
