"""Cross-validation folds, and warnings about parts that are too small."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from opsin.core.errors import RecipeError
from opsin.data.dataset import Dataset
from opsin.data.split import make_split

# Smaller parts vary by chance, which the interval shows.
_LEAST: Final = 4


def cut_into_folds(dataset: Dataset, folds: int) -> list[Dataset]:
    """Return the dataset once for each fold, with that fold as its test part."""
    if dataset.recipe.fold:
        raise RecipeError(f"{folds} folds and the fold {dataset.recipe.fold} exclude each other")
    # Any other split comes from the source or a run.
    expected = make_split(dataset.subjects, dataset.recipe)
    named = dataset.given_parts or dataset.recipe.parts_of
    if named or not all(
        np.array_equal(expected.rows(part), dataset.split.rows(part))
        for part in ("train", "val", "test")
    ):
        raise RecipeError(
            f"{dataset.recipe.parts_of or dataset.recipe.source} says itself which images are for "
            f"{'the test' if dataset.given_test else 'training'}",
            "Use --repeats, or give the images without their parts.",
        )
    parts = []
    for number in range(1, folds + 1):
        recipe = dataset.recipe.model_copy(update={"fold": f"{number}/{folds}"})
        split = make_split(dataset.subjects, recipe)
        if not len(split.test):
            raise RecipeError(
                f"{folds} folds are too many: {len(np.unique(dataset.units)):,} independent images "
                f"leave fold {number} without any to test",
                "Give fewer folds, or add images that are independent of these.",
            )
        parts.append(replace(dataset, recipe=recipe, split=split))
    return parts


def thin_parts(dataset: Dataset) -> str:
    """Describe a part that has far fewer images than requested, or lacks a class."""
    recipe, split = dataset.recipe, dataset.split
    if dataset.judged_by_all or recipe.fold or dataset.problem:
        return ""
    sentences = []
    for part, name, share, cut in (
        ("test", "the test", recipe.test_fraction, not dataset.given_parts),
        ("val", "validation", recipe.val_fraction, "val" not in dataset.given_parts),
    ):
        rest = len(dataset) - (len(split.test) if part == "val" else 0)
        wanted, count = share * rest, len(split.rows(part))
        if cut and wanted >= _LEAST and count < wanted / 2:
            sentences.append(
                f"Only {count:,} of {len(dataset):,} images are for {name}, where {wanted:,.0f} "
                "were asked for: many belong together, as groups or near duplicates."
            )
    part, name = ("test", "test") if len(split.test) else ("val", "validation")
    there = np.unique(dataset.labels[split.rows(part)])
    absent = [class_name for label, class_name in enumerate(dataset.classes) if label not in there]
    if absent:
        more = f" and {len(absent) - 5:,} more" if len(absent) > 5 else ""
        sentences.append(
            f"The figure says nothing of {', '.join(absent[:5])}{more}: no {name} image is of "
            f"{'this class' if len(absent) == 1 else 'these classes'}."
        )
    return " ".join(sentences)
