"""Folds are those of `--fold`, cover every image once, and part nothing that belongs together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import opsin
from opsin.core.errors import RecipeError
from opsin.data.folds import cut_into_folds, thin_parts
from tests.conftest import shape_image, write_shapes


def collection(count: int, classes: int, people: int, copies: int, seed: int) -> dict[str, Any]:
    """Make arrays of random images, some of them twice, some of one person."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 8, 8), np.uint8)
    labels = np.arange(count) % classes
    if copies:
        images[-copies:] = images[:copies]
    groups = [f"person {number}" if number < people else "" for number in
              random.integers(0, 2 * people + 1, count)]  # fmt: skip
    return {"images": images, "labels": labels, "groups": groups}


@settings(max_examples=15)
@given(
    count=st.integers(60, 160), classes=st.integers(2, 4), people=st.integers(0, 12),
    copies=st.integers(0, 10), folds=st.integers(2, 5), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_folds_cover_everything_once_and_are_those_of_the_option(
    count: int, classes: int, people: int, copies: int, folds: int, seed: int
) -> None:
    made = collection(count, classes, people, copies, seed)
    data = opsin.from_arrays(**made)
    parts = cut_into_folds(data, folds)
    tested = np.concatenate([part.split.test for part in parts])
    assert sorted(tested) == list(range(count))
    groups = np.array(made["groups"])
    for number, part in enumerate(parts, 1):
        sides = [set(groups[part.split.rows(side)]) - {""} for side in ("train", "val", "test")]
        assert sum(map(len, sides)) == len(set.union(*sides))
        assert part.leaks == (0, 0)
        alone = opsin.from_arrays(**made, fold=f"{number}/{folds}")
        for side in ("train", "val", "test"):
            assert np.array_equal(part.split.rows(side), alone.split.rows(side))
        assert part.recipe == alone.recipe


@pytest.mark.parametrize("choice", ["together", "apart"])
def test_near_duplicates_are_parted_as_was_asked(choice: str) -> None:
    images = np.stack([shape_image(kind, seed) for seed in range(20) for kind in ("disc", "cross")])
    brighter = np.clip(images.astype(np.int64) + 15, 0, 255).astype(np.uint8)
    labels = np.tile(np.arange(40) % 2, 2)
    both = np.concatenate([images, brighter])
    data = opsin.from_arrays(both, labels, near_duplicates=choice)
    assert len(data.near.pairs) >= 20
    parts = cut_into_folds(data, 4)
    assert (sum(part.leaks[1] for part in parts) == 0) == (choice == "together")
    alone = opsin.from_arrays(both, labels, near_duplicates=choice, fold="3/4")
    assert np.array_equal(parts[2].split.test, alone.split.test)


def test_a_source_that_names_its_parts_is_refused(tmp_path: Path) -> None:
    made = collection(60, 2, 0, 0, 0)
    test = (made["images"][:20] // 2, made["labels"][:20])
    with pytest.raises(RecipeError, match="which images are for the test"):
        cut_into_folds(opsin.from_arrays(made["images"], made["labels"], test=test), 3)
    for part in ("train", "val"):
        write_shapes(tmp_path / part, count=9 if part == "train" else 3)
    with pytest.raises(RecipeError, match="which images are for training"):
        cut_into_folds(opsin.load(tmp_path), 3)


def groups_of(sizes: list[int], classes: int = 3, **options: Any) -> opsin.Dataset:
    """Make images of which those of one group belong together, each group of every class."""
    count = sum(sizes)
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), np.uint8)
    names = [f"person {n}" for n, size in enumerate(sizes) for _ in range(size)]
    labels = np.arange(count) % classes
    return opsin.from_arrays(images, labels, groups=names, **options)


def test_too_many_folds_for_large_groups_are_refused() -> None:
    data = groups_of([30] * 5)
    assert min(len(data.split.val), len(data.split.test)) >= 30
    with pytest.raises(RecipeError, match="without any to test"):
        cut_into_folds(data, 6)
    assert sum(len(part.split.test) for part in cut_into_folds(data, 5)) == len(data)


def test_two_bundles_of_everything_have_no_test_part_which_is_said() -> None:
    said = thin_parts(groups_of([50, 50]))
    assert "Only 0 of 100 images are for the test, where 10 were asked for" in said


def test_classes_that_the_figure_says_nothing_of_are_named() -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8)
    data = opsin.from_arrays(
        images[:60], np.arange(60) % 3, ["a", "b", "c"], test=(images[60:], np.arange(30) % 2)
    )
    said = thin_parts(data)
    assert said.startswith("The figure says nothing of c: no test image is of this class.")
