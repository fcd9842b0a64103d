"""A dataset cut into folds, each of them the test part once."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np

from opsin.core.errors import OpsinError, RecipeError
from opsin.data.dataset import Dataset
from opsin.data.split import make_split


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
