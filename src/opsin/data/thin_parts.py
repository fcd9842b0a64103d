"""What the figures rest on where a part of the split came out thin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from opsin.core.format import counted
from opsin.data.dataset import Dataset
from opsin.data.folds import folds_that_work

# From this many images on, a part varies little by chance; of fewer, the interval tells.
_LEAST: Final = 4


def thin_parts(dataset: Dataset) -> str:
    """Say which part has far fewer images than were asked for, or lacks a class, and the remedy."""
    said = [*_few(dataset), *_lacking(dataset)]
    if not said or dataset.judged_by_all:
        return ""
    return " ".join([*said, _remedy(dataset)])


def _few(dataset: Dataset) -> Iterator[str]:
    """Say which parts have less than half of the images that were asked for, and why."""
    recipe, split = dataset.recipe, dataset.split
    if recipe.fold or dataset.problem:
        return
    for part, name, share, of, cut in (
        ("test", "the test", recipe.test_fraction, len(dataset), not dataset.given_parts),
        ("val", "validation", recipe.val_fraction, len(dataset) - len(split.test),
         "val" not in dataset.given_parts),
    ):  # fmt: skip
        wanted, found = share * of, len(split.rows(part))
        if not cut or wanted < _LEAST or found >= wanted / 2:
            continue
        sizes = np.bincount(dataset.units)
        large = sizes[(sizes > 1) & (sizes > share * len(dataset))]
        why = (
            f", since {int(large.sum()):,} images hang together, as groups or near duplicates, in "
            f"{counted(len(large), 'bundle')} larger than that"
        )
        yield (
            f"Only {found:,} of {len(dataset):,} images are for {name}, where {wanted:,.0f} were "
            f"asked for{why if len(large) else ', by chance'}."
        )


def _lacking(dataset: Dataset) -> Iterator[str]:
    """Say which classes the figure says nothing about."""
    part, name = ("test", "test") if len(dataset.split.test) else ("val", "validation")
    there = np.unique(dataset.labels[dataset.split.rows(part)])
    absent = [each for label, each in enumerate(dataset.classes) if label not in there]
    if absent and not dataset.recipe.fold and not dataset.problem:
        more = f" and {len(absent) - 5:,} more" if len(absent) > 5 else ""
        yield (
            f"The figure says nothing of {', '.join(absent[:5])}{more}: no {name} image is of "
            f"{'this class' if len(absent) == 1 else 'these classes'}."
        )


def _remedy(dataset: Dataset) -> str:
    """Name what helps with these images."""
    if not dataset.given_parts:
        options = folds_that_work(dataset, 5)
        if options:
            return f"{options} tests each image once."
    return "Add images that are independent of these."
