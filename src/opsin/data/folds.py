"""A dataset cut into folds, each of them the test part once."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np

from opsin.core.errors import RecipeError, SourceError
from opsin.data.dataset import Dataset
from opsin.data.split import Subjects, make_split


def cut_into_folds(dataset: Dataset, folds: int) -> list[Dataset]:
    """Return the dataset once for each fold, with that fold as its test part.

    Only the splits differ, and they are those of `opsin.load` with ``fold="1/5"``, ``"2/5"`` ….

    Args:
        dataset: Images whose split was left to Opsin.
        folds: How many, at least 2.

    Raises:
        RecipeError: The source names its parts, or a fold has no images.

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
    subjects = _subjects_of(dataset)
    # A split other than Opsin would make is the source's.
    own = make_split(subjects, dataset.recipe)
    if dataset.given_test or not all(
        np.array_equal(own.rows(part), dataset.split.rows(part))
        for part in ("train", "val", "test")
    ):
        raise RecipeError(
            "images that may all be tested once, for folds",
            f"{dataset.recipe.source} says itself which of them are for "
            f"{'the test' if dataset.given_test else 'training'}",
            "Use --repeats, or give the images without their parts.",
        )
    parts = _cut(dataset, subjects, folds, dataset.recipe.assignment)
    empty = [part.recipe.fold for part in parts if not len(part.split.test)]
    if empty:
        works = folds_that_work(dataset, folds)
        raise RecipeError(
            f"images to test in each of {folds} folds",
            f"{len(dataset):,} images, of which {len(np.unique(subjects.units)):,} are "
            f"independent of each other, leave fold {empty[0]} without any",
            f"Give {works}." if works else "Add images that are independent of these.",
        )
    return parts


def folds_that_work(dataset: Dataset, most: int) -> str:
    """Return the options that cut a dataset into folds with images to test in each.

    Args:
        dataset: Images whose split was left to Opsin.
        most: How many folds at most.

    Returns:
        Such as ``--folds 5 --assignment exact``; ``""`` where no number of folds works.
    """
    subjects = _subjects_of(dataset)
    own = dataset.recipe.assignment
    for folds in dict.fromkeys((most, 20, 10, 5, 4, 3, 2)):
        for assignment in dict.fromkeys((own, "exact")):
            with contextlib.suppress(SourceError):
                parts = _cut(dataset, subjects, folds, assignment) if folds <= most else []
                if parts and all(len(part.split.test) for part in parts):
                    return f"--folds {folds}{' --assignment exact' * (assignment == 'exact')}"
    return ""


def _cut(dataset: Dataset, subjects: Subjects, folds: int, assignment: str) -> list[Dataset]:
    parts = []
    for number in range(1, folds + 1):
        recipe = dataset.recipe.model_copy(
            update={"fold": f"{number}/{folds}", "assignment": assignment}
        )
        parts.append(replace(dataset, recipe=recipe, split=make_split(subjects, recipe)))
    return parts


def _subjects_of(dataset: Dataset) -> Subjects:
    return Subjects(
        labels=dataset.labels,
        digests=dataset.digests,
        source_digests=dataset.source_digests,
        given=np.zeros(len(dataset), np.uint8),
        classes=dataset.classes,
        units=dataset.units,
        groups=dataset.groups,
    )
