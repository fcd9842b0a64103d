"""A part that came out thin is said beside the figure, with a remedy that runs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.core.errors import RecipeError
from opsin.data.folds import cut_into_folds, thin_parts


def groups_of(sizes: list[int], classes: int = 3, **options: Any) -> opsin.Dataset:
    """Make images of which those of one group belong together, each group of every class."""
    count = sum(sizes)
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), np.uint8)
    names = [f"person {n}" for n, size in enumerate(sizes) for _ in range(size)]
    labels = np.arange(count) % classes
    return opsin.from_arrays(images, labels, groups=names, **options)


@pytest.mark.parametrize("sizes", [[60, 10, 10, 10], [30] * 5])
def test_few_large_groups_leave_thin_parts_or_none_and_a_remedy_that_runs(
    sizes: list[int],
) -> None:
    data = groups_of(sizes)
    assert min(len(data.split.val), len(data.split.test)) >= min(sizes)
    for folds in (len(sizes) + 1, 20):
        with pytest.raises(RecipeError, match=r"Give --folds \d") as error:
            cut_into_folds(data, folds)
        folds_advised = re.search(r"--folds (\d+)", error.value.advice)
        assert folds_advised
        parts = cut_into_folds(data, int(folds_advised[1]))
        assert sum(len(part.split.test) for part in parts) == len(data)


def test_two_bundles_of_everything_have_no_test_part_which_is_said() -> None:
    data = groups_of([50, 50])
    said = thin_parts(data)
    assert "Only 0 of 100 images are for the test, where 10 were asked for" in said
    assert "100 images hang together, as groups or near duplicates, in 2 bundles" in said
    # One fold would leave one bundle, for training and validation.
    assert said.endswith("Add images that are independent of these.")


def test_classes_that_the_figure_says_nothing_of_are_named() -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8)
    data = opsin.from_arrays(
        images[:60], np.arange(60) % 3, ["a", "b", "c"], test=(images[60:], np.arange(30) % 2)
    )
    said = thin_parts(data)
    assert said.startswith("The figure says nothing of c: no test image is of this class.")
    assert "--folds" not in said
