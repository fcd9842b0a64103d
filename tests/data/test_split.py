"""Splits never overlap, keep together what belongs together, and follow content alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.core.errors import RecipeError, SourceError
from opsin.core.recipe import DataRecipe
from opsin.data.duplicate_groups import split_groups
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL, Split, Subjects, find_leaks, make_split

NO_PAIRS = np.zeros((0, 2), np.int64)


def digests(contents: list[int]) -> NDArray[np.uint8]:
    rows = [hashlib.sha256(str(content).encode()).digest() for content in contents]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)


def split(
    labels: list[int],
    contents: list[int] | None = None,
    given: int | list[int] = UNASSIGNED,
    *,
    groups: list[str] | None = None,
    pairs: NDArray[np.int64] = NO_PAIRS,
    **options: Any,
) -> Split:
    made_of = digests(list(range(len(labels))) if contents is None else contents)
    subjects = Subjects(
        np.array(labels, np.int64),
        made_of,
        made_of,
        np.broadcast_to(np.array(given, np.uint8), (len(labels),)),
        [str(label) for label in range(max(labels) + 1)],
        split_groups(made_of, groups or [], pairs),
        groups or [],
    )
    return make_split(subjects, DataRecipe.of("x", **options))


def sides(parts: Split, count: int) -> list[str]:
    """Name the part of each row."""
    side = [""] * count
    for part in ("train", "val", "test"):
        for row in parts.rows(part):
            assert side[row] == "", "a row in two parts"
            side[row] = part
    assert all(side), "a row in no part"
    return side


def labelled(sizes: list[int]) -> list[int]:
    return [label for label, size in enumerate(sizes) for _ in range(size)]


sizes = st.lists(st.integers(3, 60), min_size=2, max_size=5)
assignments = st.sampled_from(["stable", "exact"])


@given(sizes=sizes, seed=st.integers(0, 5), assignment=assignments)
def test_each_image_is_in_one_part_and_each_class_in_train_and_val(
    sizes: list[int], seed: int, assignment: str
) -> None:
    labels = labelled(sizes)
    parts = split(labels, split_seed=seed, assignment=assignment)
    sides(parts, len(labels))
    for label in range(len(sizes)):
        own = {
            part: np.sum(np.array(labels)[parts.rows(part)] == label) for part in ("train", "val")
        }
        assert own["train"]
        # The test's images stay the test's, even where few are left.
        assert own["val"] or own["train"] == 1


@given(sizes=sizes, seed=st.integers(0, 5))
def test_exact_parts_are_within_one_image_of_their_share(sizes: list[int], seed: int) -> None:
    labels = np.array(labelled(sizes))
    parts = split(labels.tolist(), split_seed=seed, assignment="exact", val_fraction=0.2)
    for label, size in enumerate(sizes):
        assert abs(np.sum(labels[parts.test] == label) - size / 10) <= 1
        left = size - np.sum(labels[parts.test] == label)
        assert abs(np.sum(labels[parts.val] == label) - max(1, left / 5)) <= 1


@pytest.mark.parametrize("together", [1, 5])
def test_stable_parts_vary_no_more_than_chance_explains(together: int) -> None:
    count = 20_000
    pairs = np.arange(count).reshape(-1, together)
    pairs = np.stack([np.repeat(pairs[:, 0], together), pairs.ravel()], axis=1)
    parts = split([row % 2 for row in range(count)], pairs=pairs)
    deviation = np.sqrt(count * together * 0.1 * 0.9)
    assert abs(len(parts.test) - count / 10) < 4 * deviation
    assert abs(len(parts.val) - count * 0.09) < 4 * deviation


@given(sizes=sizes, order=st.randoms(use_true_random=False), assignment=assignments)
def test_the_order_of_the_files_changes_nothing(
    sizes: list[int], order: Any, assignment: str
) -> None:
    labels = labelled(sizes)
    shuffled = list(range(len(labels)))
    order.shuffle(shuffled)
    plain = sides(split(labels, assignment=assignment), len(labels))
    other = sides(
        split([labels[row] for row in shuffled], shuffled, assignment=assignment), len(labels)
    )
    assert [plain[row] for row in shuffled] == other


@given(sizes=st.lists(st.integers(60, 120), min_size=2, max_size=3), more=st.integers(1, 200))
def test_images_that_are_added_move_no_old_one(sizes: list[int], more: int) -> None:
    labels = labelled(sizes)
    before = sides(split(labels), len(labels))
    grown = labels + [row % len(sizes) for row in range(more)]
    after = sides(split(grown), len(grown))
    assert after[: len(labels)] == before


@given(sizes=st.lists(st.integers(2, 12), min_size=2, max_size=4), more=st.integers(1, 30))
def test_even_of_tiny_sets_only_a_class_s_only_test_image_moves(
    sizes: list[int], more: int
) -> None:
    labels = labelled(sizes)
    before = sides(split(labels), len(labels))
    grown = labels + [row % len(sizes) for row in range(more)]
    after = sides(split(grown), len(grown))
    tested = [row for row, side in enumerate(before) if side == "test"]
    alone = Counter(labels[row] for row in tested)
    assert all(after[row] == "test" or alone[labels[row]] == 1 for row in tested)


@given(
    sizes=st.lists(st.integers(3, 30), min_size=2, max_size=4), assignment=assignments,
    together=st.sampled_from([1, 2, 9]), mixed=st.booleans(),
)  # fmt: skip
def test_a_class_of_three_independent_groups_is_in_every_part(
    sizes: list[int], assignment: str, together: int, mixed: bool
) -> None:
    labels = labelled([size * together for size in sizes])
    if mixed:  # each group has images of every class
        labels = [row % len(sizes) for row in range(len(sizes) * together * max(sizes))]
    size = together * (len(sizes) if mixed else 1)
    groups = [f"person {row // size}" for row in range(len(labels))]
    parts = split(labels, groups=groups, assignment=assignment)
    for part in ("train", "val", "test"):
        assert {labels[row] for row in parts.rows(part)} == set(labels)


def test_few_groups_of_all_classes_are_dealt_out_to_exact_folds() -> None:
    labels = [row % 3 for row in range(150)]
    groups = [f"person {row // 30}" for row in range(150)]
    for n in range(1, 6):
        assert len(split(labels, groups=groups, fold=f"{n}/5", assignment="exact").test) == 30


@settings(max_examples=60)
@given(
    data=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=12, max_size=80).filter(
        lambda rows: all(sum(label == k for label, _ in rows) >= 2 for k in range(3))
    ),
    seed=st.integers(0, 5),
    assignment=assignments,
    fold=st.sampled_from([None, "1/3", "3/3"]),
)
def test_groups_never_straddle(
    data: list[tuple[int, int]], seed: int, assignment: str, fold: str | None
) -> None:
    labels = [label for label, _ in data]
    groups = [f"person {group}" if group else "" for _, group in data]
    try:
        parts = split(labels, groups=groups, split_seed=seed, assignment=assignment, fold=fold)
    except SourceError as error:
        assert "hang together" in str(error)
        return
    side = sides(parts, len(labels))
    for group in set(groups) - {""}:
        assert len({side[row] for row in range(len(data)) if groups[row] == group}) == 1


@given(
    copies=st.lists(st.integers(1, 6), min_size=8, max_size=30),
    assignment=assignments,
    seed=st.integers(0, 3),
)
def test_copies_and_near_duplicates_stay_on_one_side(
    copies: list[int], assignment: str, seed: int
) -> None:
    contents = [content for content, count in enumerate(copies) for _ in range(count)]
    labels = [content % 2 for content in contents]
    # Contents 0 and 2 are near duplicates, and so are 2 and 4.
    pairs = np.array(
        [[contents.index(0), contents.index(2)], [contents.index(2), contents.index(4)]]
    )
    side = sides(
        split(labels, contents, pairs=pairs, split_seed=seed, assignment=assignment), len(labels)
    )
    for content in range(len(copies)):
        assert len({s for s, c in zip(side, contents, strict=True) if c == content}) == 1
    assert len({s for s, c in zip(side, contents, strict=True) if c in (0, 2, 4)}) == 1


@given(
    count=st.integers(2, 6), sizes=st.lists(st.integers(20, 60), min_size=2, max_size=3),
    assignment=assignments,
)  # fmt: skip
def test_folds_cover_everything_once(count: int, sizes: list[int], assignment: str) -> None:
    labels = labelled(sizes)
    tested = [
        split(labels, fold=f"{number}/{count}", assignment=assignment).test.tolist()
        for number in range(1, count + 1)
    ]
    assert sorted(row for fold in tested for row in fold) == list(range(len(labels)))
    if assignment == "exact":
        for fold in tested:
            for label, size in enumerate(sizes):
                own = sum(labels[row] == label for row in fold)
                assert abs(own - size / count) <= 1


def test_what_is_larger_than_a_part_is_trained_on() -> None:
    labels = [row % 2 for row in range(200)]
    groups = ["anna" if row < 50 else "" for row in range(200)]
    for seed in range(30):
        assert set(range(50)) <= set(split(labels, groups=groups, split_seed=seed).train.tolist())
    folds = [split(labels, groups=groups, fold=f"{number}/3").test for number in (1, 2, 3)]
    assert sum(0 in fold for fold in folds) == 1


def test_another_seed_gives_another_split() -> None:
    labels = [row % 2 for row in range(200)]
    assert split(labels).test.tolist() != split(labels, split_seed=1).test.tolist()


def test_given_parts_stay_as_they_are() -> None:
    labels = [row % 2 for row in range(60)]
    given_parts = [TEST] * 20 + [TRAIN] * 40
    parts = split(labels, given=given_parts)
    assert parts.test.tolist() == list(range(20))
    assert len(parts.val) >= 2
    given_parts = [VAL] * 20 + [TRAIN] * 40
    parts = split(labels, given=given_parts)
    assert parts.val.tolist() == list(range(20))
    assert parts.test.size == 0


def test_a_test_part_that_opsin_cut_leaves_validation_the_same_when_it_is_given() -> None:
    labels = [row % 2 for row in range(1000)]
    cut = split(labels)
    given_parts = [TRAIN] * 1000
    for row in cut.test:
        given_parts[row] = TEST
    again = split(labels, given=given_parts)
    assert sides(again, 1000) == sides(cut, 1000)


def test_folds_of_a_source_with_a_test_part_are_refused() -> None:
    with pytest.raises(RecipeError, match="test images are given"):
        split([0, 1] * 10, given=[TEST] * 4 + [TRAIN] * 16, fold="1/5")


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b"])
def test_impossible_folds_are_refused(fold: str) -> None:
    with pytest.raises(RecipeError):
        DataRecipe.of("x", fold=fold)


def test_a_class_of_one_image_is_refused_even_if_it_is_there_twice() -> None:
    with pytest.raises(SourceError, match="class '1' has 1"):
        split([0, 0, 0, 1, 1], [0, 1, 2, 3, 3])


def test_images_that_all_hang_together_cannot_be_split() -> None:
    with pytest.raises(SourceError, match=r"all 20 training images hang together.*--group-by"):
        split([0, 1] * 10, groups=["anna"] * 20)


def test_a_class_of_one_group_is_learnt() -> None:
    labels = [0] * 30 + [1] * 5
    for seed in range(20):
        parts = split(labels, groups=[""] * 30 + ["anna"] * 5, split_seed=seed)
        assert {30, 31, 32, 33, 34} <= set(parts.train.tolist())


def test_leaks_are_found_by_content() -> None:
    def leaks(of: Split, numbers: list[int], pairs: NDArray[np.int64]) -> list[list[int]]:
        return [rows.tolist() for rows in find_leaks(of, digests(numbers), pairs)]

    parts = Split(np.array([0, 1]), np.array([2]), np.array([3, 4, 5]))
    assert leaks(parts, [7, 8, 9, 7, 9, 1], NO_PAIRS) == [[3, 4], []]
    assert leaks(parts, [7, 8, 9, 7, 4, 1], np.array([[1, 5]])) == [[3], [5]]
    # A copy of a near duplicate is one as well, and what has an exact copy is not counted again.
    assert leaks(parts, [7, 8, 9, 7, 1, 1], np.array([[3, 5]])) == [[3], [4, 5]]
    empty = Split(parts.train, parts.val, np.array([], np.int64))
    assert leaks(empty, [1] * 6, NO_PAIRS) == [[], []]


@pytest.mark.parametrize(("count", "parts"), [(100, ("train",)), (1800, ("train", "val"))])
def test_what_an_earlier_cut_left_is_cut_by_other_numbers(
    count: int, parts: tuple[str, ...]
) -> None:
    labels = [row % 2 for row in range(count)]
    first = split(labels)
    left = np.concatenate([first.rows(part) for part in parts])
    again = split([labels[row] for row in left], left.tolist())
    expected = np.array([0.1, 0.09]) * len(left)
    found = np.array([len(again.test), len(again.val)])
    assert np.all(np.abs(found - expected) < 4 * np.sqrt(expected))


def test_what_an_earlier_cut_left_may_grow() -> None:
    left = split([row % 2 for row in range(1000)]).train.tolist()
    before = sides(split([row % 2 for row in left], left), len(left))
    grown = [*left, *range(2000, 2100)]
    after = sides(split([row % 2 for row in grown], grown), len(grown))
    assert after[: len(left)] == before


def test_folds_of_what_an_earlier_cut_left_are_equally_large() -> None:
    left = split([row % 2 for row in range(2000)]).train
    labels = [int(row % 2) for row in left]
    sizes = [len(split(labels, left.tolist(), fold=f"{n}/5").test) for n in range(1, 6)]
    assert sum(sizes) == len(left)
    assert min(sizes) > 0.16 * len(left)


def test_a_recipe_that_does_not_say_is_cut_as_before() -> None:
    labels = np.arange(400) % 2
    made_of = digests(list(range(400)))
    other = digests(list(range(1000, 1400)))
    recipe = DataRecipe.model_validate({"sources": ["x"]})
    assert recipe.split_by == "pixels"
    assert DataRecipe.of("x").split_by == "bytes"
    units = split_groups(made_of, [], NO_PAIRS)

    def cut(source_digests: NDArray[np.uint8], recipe: DataRecipe) -> list[int]:
        given = np.zeros(400, np.uint8)
        subjects = Subjects(labels, made_of, source_digests, given, ["0", "1"], units)
        return list(map(int, make_split(subjects, recipe).test))

    assert cut(other, recipe) == cut(made_of, DataRecipe.of("x"))
    assert cut(other, DataRecipe.of("x")) != cut(other, recipe)
