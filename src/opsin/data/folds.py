"""A dataset cut into folds, each of them the test part once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from opsin.data.dataset import Dataset
from opsin.data.kin import units_of
from opsin.data.near.find import NO_PAIRS
from opsin.data.split import Subjects, make_split
from opsin.errors import RecipeError


def cut_into_folds(dataset: Dataset, folds: int) -> list[Dataset]:
    """Return the dataset once for each fold, with that fold as its test part.

    Only the splits differ, and they are those of `opsin.load` with ``fold="1/5"``, ``"2/5"`` ….

    Args:
        dataset: Pictures whose split was left to Opsin.
        folds: How many, at least 2.

    Raises:
        RecipeError: The source names its parts, or a fold has no pictures.

    Example:
        >>> from opsin.data.dataset import load
        >>> [len(part.split.test) for part in cut_into_folds(load("digits"), 3)]
        [608, 603, 586]
    """
    if dataset.recipe.fold:
        raise RecipeError(
            "a number of folds, or one of them",
            f"got {folds} folds and the fold {dataset.recipe.fold}",
            "Leave the one fold out.",
        )
    together = dataset.recipe.near_duplicates == "together"
    pairs = dataset.near.pairs if together else NO_PAIRS.pairs
    subjects = Subjects(
        labels=dataset.labels,
        digests=dataset.digests,
        source_digests=dataset.source_digests,
        given=np.zeros(len(dataset), np.uint8),
        classes=dataset.classes,
        units=units_of(dataset.digests, dataset.groups, pairs),
        groups=dataset.groups,
    )
    # A split other than Opsin would make is the source's.
    own = make_split(subjects, dataset.recipe)
    if dataset.given_test or not all(
        np.array_equal(own.rows(part), dataset.split.rows(part))
        for part in ("train", "val", "test")
    ):
        raise RecipeError(
            "pictures that may all be tested once, for folds",
            f"{dataset.recipe.source} says itself which of them are for "
            f"{'the test' if dataset.given_test else 'training'}",
            "Use --repeats, or give the pictures without their parts.",
        )
    parts = []
    for number in range(1, folds + 1):
        recipe = dataset.recipe.model_copy(update={"fold": f"{number}/{folds}"})
        parts.append(replace(dataset, recipe=recipe, split=make_split(subjects, recipe)))
    empty = [part.recipe.fold for part in parts if not len(part.split.test)]
    if empty:
        raise RecipeError(
            f"pictures to test in each of {folds} folds",
            f"{len(dataset):,} pictures leave fold {empty[0]} without any",
            "Ask for fewer folds, or give --assignment exact.",
        )
    return parts
