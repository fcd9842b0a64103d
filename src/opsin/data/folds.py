"""A dataset cut into folds, each of them the test part once; and parts that came out thin."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from opsin.core.errors import OpsinError, RecipeError
from opsin.core.format import counted
from opsin.data.dataset import Dataset
from opsin.data.split import make_split

# From this many images on, a part varies little by chance; of fewer, the interval tells.
_LEAST: Final = 4


def cut_into_folds(dataset: Dataset, folds: int) -> list[Dataset]:
    """Return the dataset once for each fold, with that fold as its test part."""
    if dataset.recipe.fold:
        raise RecipeError(
            "a number of folds, or one of them",
            f"got {folds} folds and the fold {dataset.recipe.fold}",
            "Leave the one fold out.",
        )
    # A split other than Opsin would make is the source's, or a run's.
    own = make_split(dataset.subjects, dataset.recipe)
    named = dataset.given_parts or dataset.recipe.parts_of
    if named or not all(
        np.array_equal(own.rows(part), dataset.split.rows(part))
        for part in ("train", "val", "test")
    ):
        raise RecipeError(
            "images that may all be tested once, for folds",
            f"{dataset.recipe.parts_of or dataset.recipe.source} says itself which of them are for "
            f"{'the test' if dataset.given_test else 'training'}",
            "Use --repeats, or give the images without their parts.",
        )
    parts = _cut(dataset, folds)
    empty = [part.recipe.fold for part in parts if not len(part.split.test)]
    if empty:
        works = folds_that_work(dataset, folds)
        raise RecipeError(
            f"images to test in each of {folds} folds",
            f"{len(dataset):,} images, of which {len(np.unique(dataset.units)):,} are "
            f"independent of each other, leave fold {empty[0]} without any",
            f"Give {works}." if works else "Add images that are independent of these.",
        )
    return parts


def folds_that_work(dataset: Dataset, most: int) -> str:
    """Return the option that cuts a dataset into folds with images to test in each."""
    for folds in dict.fromkeys((most, 20, 10, 5, 4, 3, 2)):
        with contextlib.suppress(OpsinError):
            if folds <= most and all(len(part.split.test) for part in _cut(dataset, folds)):
                return f"--folds {folds}"
    return ""


def _cut(dataset: Dataset, folds: int) -> list[Dataset]:
    parts = []
    for number in range(1, folds + 1):
        recipe = dataset.recipe.model_copy(update={"fold": f"{number}/{folds}"})
        parts.append(replace(dataset, recipe=recipe, split=make_split(dataset.subjects, recipe)))
    return parts


def thin_parts(dataset: Dataset) -> str:
    """Say which part has far fewer images than were asked for, or lacks a class, and the remedy."""
    thin = [*_few(dataset), *_lacking(dataset)]
    if not thin or dataset.judged_by_all or dataset.recipe.fold or dataset.problem:
        return ""
    options = "" if dataset.given_parts else folds_that_work(dataset, 5)
    return " ".join(
        [
            *thin,
            f"{options} tests each image once."
            if options
            else "Add images that are independent of these.",
        ]
    )


def _few(dataset: Dataset) -> Iterator[str]:
    """Say which parts have less than half of the images that were asked for, and why."""
    recipe, split = dataset.recipe, dataset.split
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
    if absent:
        more = f" and {len(absent) - 5:,} more" if len(absent) > 5 else ""
        yield (
            f"The figure says nothing of {', '.join(absent[:5])}{more}: no {name} image is of "
            f"{'this class' if len(absent) == 1 else 'these classes'}."
        )
