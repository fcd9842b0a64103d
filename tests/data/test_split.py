"""Splits never overlap, keep together what belongs together, and follow content alone."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from opsin.core.errors import RecipeError, SourceError
from opsin.core.recipe import DataRecipe
from opsin.data import split as cuts
from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL, Split, SplitInputs, make_split

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
    recorded: list[int] | None = None,
    **options: Any,
) -> Split:
    made_of = digests(list(range(len(labels))) if contents is None else contents)
    subjects = SplitInputs(
        np.array(labels, np.int64),
        made_of,
        made_of,
        np.broadcast_to(np.array(given, np.uint8), (len(labels),)),
        [str(label) for label in range(max(labels) + 1)],
        cuts.split_groups(made_of, groups or [], pairs),
        groups or [],
        None if recorded is None else np.array(recorded, np.uint8),
    )
    return make_split(subjects, DataRecipe.of("x", **options))


def sides(parts: Split, count: int) -> list[str]:
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


@given(sizes=sizes, seed=st.integers(0, 5))
def test_parts_are_within_one_image_of_their_share(sizes: list[int], seed: int) -> None:
    labels = np.array(labelled(sizes))
    parts = split(labels.tolist(), split_seed=seed, val_fraction=0.2)
    sides(parts, len(labels))
    for label, size in enumerate(sizes):
        own = [np.sum(labels[parts.rows(p)] == label) for p in ("train", "val", "test")]
        assert abs(own[2] - size / 10) <= 1
        assert abs(own[1] - max(1, (size - own[2]) / 5)) <= 1
        # The test's images stay the test's, even where few are left.
        assert own[0] and (own[1] or own[0] == 1)


@pytest.mark.parametrize("together", [1, 5])
def test_parts_of_large_classes_vary_no_more_than_chance_explains(together: int) -> None:
    count = 20_000
    pairs = np.arange(count).reshape(-1, together)
    pairs = np.stack([np.repeat(pairs[:, 0], together), pairs.ravel()], axis=1)
    parts = split([row % 2 for row in range(count)], pairs=pairs)
    deviation = np.sqrt(count * together * 0.1 * 0.9)
    assert abs(len(parts.test) - count / 10) < 4 * deviation
    assert abs(len(parts.val) - count * 0.09) < 4 * deviation


@given(sizes=sizes, order=st.randoms(use_true_random=False))
def test_the_order_of_the_files_changes_nothing(sizes: list[int], order: Any) -> None:
    labels = labelled(sizes)
    shuffled = list(range(len(labels)))
    order.shuffle(shuffled)
    plain = sides(split(labels), len(labels))
    other = sides(split([labels[row] for row in shuffled], shuffled), len(labels))
    assert [plain[row] for row in shuffled] == other


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(500, 700), min_size=2, max_size=3), more=st.integers(1, 900))
def test_images_added_to_large_classes_move_no_old_one(sizes: list[int], more: int) -> None:
    labels = labelled(sizes)
    before = sides(split(labels), len(labels))
    grown = labels + [row % len(sizes) for row in range(more)]
    after = sides(split(grown), len(grown))
    assert after[: len(labels)] == before


@given(sizes=st.lists(st.integers(3, 60), min_size=2, max_size=4), more=st.integers(1, 30))
def test_an_image_that_is_added_to_a_small_class_moves_few(sizes: list[int], more: int) -> None:
    labels = labelled(sizes)
    before = sides(split(labels), len(labels))
    after = sides(split(labels + [0] * more), len(labels) + more)
    moved = [row for row, side in enumerate(before) if side != after[row]]
    assert all(labels[row] == 0 for row in moved)
    # The borders move by a fifth of the new images, and those that change places go one by one.
    assert len(moved) <= 2 * more + 2


@given(
    sizes=st.lists(st.integers(3, 30), min_size=2, max_size=4),
    together=st.sampled_from([1, 2, 9]),
    mixed=st.booleans(),
)
def test_three_groups_are_in_every_part(sizes: list[int], together: int, mixed: bool) -> None:
    labels = labelled([size * together for size in sizes])
    if mixed:  # each group has images of every class
        labels = [row % len(sizes) for row in range(len(sizes) * together * max(sizes))]
    size = together * (len(sizes) if mixed else 1)
    groups = [f"person {row // size}" for row in range(len(labels))]
    parts = split(labels, groups=groups)
    for part in ("train", "val", "test"):
        assert {labels[row] for row in parts.rows(part)} == set(labels)


@given(copies=st.lists(st.integers(1, 6), min_size=8, max_size=30), seed=st.integers(0, 3))
def test_copies_and_near_duplicates_stay_on_one_side(copies: list[int], seed: int) -> None:
    contents = [content for content, count in enumerate(copies) for _ in range(count)]
    labels = [content % 2 for content in contents]
    # Contents 0 and 2 are near duplicates, and so are 2 and 4.
    pairs = np.array(
        [[contents.index(0), contents.index(2)], [contents.index(2), contents.index(4)]]
    )
    side = np.array(sides(split(labels, contents, pairs=pairs, split_seed=seed), len(labels)))
    for together in [*([content] for content in range(len(copies))), [0, 2, 4]]:
        assert len(set(side[np.isin(contents, together)])) == 1


def test_what_is_larger_than_a_part_is_trained_on() -> None:
    labels = [row % 2 for row in range(200)]
    groups = ["anna" if row < 50 else "" for row in range(200)]
    for seed in range(30):
        assert set(range(50)) <= set(split(labels, groups=groups, split_seed=seed).train.tolist())
    folds = [split(labels, groups=groups, fold=f"{number}/3").test for number in (1, 2, 3)]
    assert sum(0 in fold for fold in folds) == 1


def test_of_two_groups_a_class_one_is_for_validation() -> None:
    parts = split(labelled([20, 20]), groups=["a"] * 17 + ["b"] * 3 + ["c"] * 17 + ["d"] * 3)
    assert (len(parts.train), len(parts.val), len(parts.test)) == (34, 6, 0)


def test_given_parts_stay_as_they_are() -> None:
    labels = [row % 2 for row in range(60)]
    parts = split(labels, given=[TEST] * 20 + [TRAIN] * 40)
    assert parts.test.tolist() == list(range(20))
    assert len(parts.val) >= 2
    parts = split(labels, given=[VAL] * 20 + [TRAIN] * 40)
    assert parts.val.tolist() == list(range(20))
    assert parts.test.size == 0


def test_a_test_part_that_opsin_cut_leaves_validation_the_same_when_it_is_given() -> None:
    labels = [row % 2 for row in range(1000)]
    cut = split(labels)
    given_parts = np.full(1000, TRAIN)
    given_parts[cut.test] = TEST
    again = split(labels, given=given_parts.tolist())
    assert sides(again, 1000) == sides(cut, 1000)


def test_a_class_of_one_image_is_refused_even_if_it_is_there_twice() -> None:
    with pytest.raises(SourceError, match="'1' has 1"):
        split([0, 0, 0, 1, 1], [0, 1, 2, 3, 3])


def test_leaks_are_found_by_content() -> None:
    def leaks(of: Split, numbers: list[int], pairs: NDArray[np.int64]) -> list[list[int]]:
        return [rows.tolist() for rows in cuts.find_leaks(of, digests(numbers), pairs)]

    parts = Split(np.array([0, 1]), np.array([2]), np.array([3, 4, 5]))
    assert leaks(parts, [7, 8, 9, 7, 9, 1], NO_PAIRS) == [[3, 4], []]
    assert leaks(parts, [7, 8, 9, 7, 4, 1], np.array([[1, 5]])) == [[3], [5]]
    # A copy of a near duplicate is one as well, and what has an exact copy is not counted again.
    assert leaks(parts, [7, 8, 9, 7, 1, 1], np.array([[3, 5]])) == [[3], [4, 5]]
    empty = Split(parts.train, parts.val, np.array([], np.int64))
    assert leaks(empty, [1] * 6, NO_PAIRS) == [[], []]


@pytest.mark.parametrize("count", [100, 1000, 4000])
@pytest.mark.parametrize("parts", [("train",), ("train", "val"), ("val",), ("test",)])
def test_what_an_earlier_cut_left_is_cut_well_again(count: int, parts: tuple[str, ...]) -> None:
    labels = [row % 2 for row in range(count)]
    first = split(labels)
    left = np.concatenate([first.rows(part) for part in parts])
    of = np.array([labels[row] for row in left])
    again = split(of.tolist(), left.tolist())
    for label in (0, 1):
        whole = int(np.sum(of == label))
        for part, share in (("test", 0.1), ("val", 0.09)):
            found, wanted = int(np.sum(of[again.rows(part)] == label)), share * whole
            chance = 4 * np.sqrt(wanted) if whole >= cuts.LARGE else 1
            assert abs(found - wanted) <= chance


@given(
    groups=st.lists(st.lists(st.integers(1, 9), min_size=4, max_size=40), min_size=2, max_size=4),
    mixed=st.integers(0, 3),
    seed=st.integers(0, 9),
)
def test_groups_are_within_one_of_the_share(groups: list[list[int]], mixed: int, seed: int) -> None:
    rows = [
        (k, f"{k} {n}")
        for k, sizes in enumerate(groups)
        for n, size in enumerate(sizes)
        for _ in range(size)
    ]
    # A few groups of two classes beside them.
    rows += [(k, f"both {n}") for n in range(mixed) for k in (0, 1)]
    labels = np.array([k for k, _ in rows])
    parts = split(labels.tolist(), groups=[name for _, name in rows], split_seed=seed)
    side, names = np.array(sides(parts, len(rows))), np.array([name for _, name in rows])
    for name in set(names):
        assert len(set(side[names == name])) == 1
    for k, sizes in enumerate(groups):
        # A group of two classes may be there for the other one.
        most, whole = max(sizes) + bool(mixed), int(np.sum(labels == k))
        tested = int(np.sum(labels[parts.test] == k))
        assert abs(tested - whole / 10) <= most
        assert abs(int(np.sum(labels[parts.val] == k)) - (whole - tested) / 10) <= most


CODES = {"train": TRAIN, "val": VAL, "test": TEST}


@given(
    sizes=st.lists(st.integers(9, 60), min_size=2, max_size=4),
    more=st.lists(st.integers(0, 60), min_size=4, max_size=4),
    gone=st.integers(0, 5),
    together=st.sampled_from([1, 4]),
)
def test_recorded_parts_stay(sizes: list[int], more: list[int], gone: int, together: int) -> None:
    labels = labelled(sizes)
    before = sides(split(labels, split_seed=3), len(labels))
    grown = labels + [label for label in range(len(sizes)) for _ in range(more[label])]
    new = len(grown) - len(labels)
    groups = [""] * len(labels) + [f"new {row // together}" for row in range(new)]
    recorded = [CODES[side] for side in before] + [UNASSIGNED] * new
    kept = list(range(gone, len(grown)))
    parts = split(
        [grown[row] for row in kept],
        kept,
        groups=[groups[row] for row in kept],
        recorded=[recorded[row] for row in kept],
    )
    after = sides(parts, len(kept))
    assert after[: len(labels) - gone] == before[gone:]
    for label in range(len(sizes)):
        own = [side for row, side in zip(kept, after, strict=True) if grown[row] == label]
        if more[label] >= 10 and gone == 0:  # enough new ones to make up for chance
            # A group may hold images of two classes.
            most = 1 if together == 1 else together + 1
            assert abs(own.count("test") - len(own) / 10) <= most


@pytest.mark.parametrize("size", [40, 700])
def test_corrections_move_nobody_else(size: int) -> None:
    count = 2 * size
    labels, made_of = np.arange(count) % 2, digests(list(range(count)))
    given, classes = np.zeros(count, np.uint8), ["0", "1"]
    plain = SplitInputs(labels, made_of, made_of, given, classes, np.arange(count))
    recipe = DataRecipe.of("x")
    before = sides(make_split(plain, recipe), count)
    rows = np.array([row for row in range(count) if row % 7])
    others = np.where(rows % 11, labels[rows], 1 - labels[rows])
    after = make_split(replace(plain, corrected=(rows, others, classes)), recipe)
    assert sides(after, len(rows)) == [before[row] for row in rows]
    # That leave nothing of a class to train on, they are refused.
    rows = np.array([row for row in range(count) if labels[row] or before[row] != "train"])
    with pytest.raises(SourceError, match="images of class '0' that are left are for"):
        make_split(replace(plain, corrected=(rows, labels[rows], classes)), recipe)


def test_an_expression_that_is_none_or_finds_nothing_is_told() -> None:
    with pytest.raises(RecipeError, match="regular expression"):
        cuts.groups_by_name(["a"], DataRecipe.of("x", group_by="("))
    with pytest.raises(SourceError, match=r"none of the 2 names, such as a\.png, b\.png"):
        cuts.groups_by_name(["a.png", "b.png"], DataRecipe.of("x", group_by="x+"))


@pytest.mark.parametrize("further", [{"sources": ("x", "y")}, {"test": "y"}])
def test_an_expression_sees_names_below_their_source(further: dict[str, object]) -> None:
    recipe = DataRecipe.of("x", group_by="^([a-z]+)_").model_copy(update=further)
    assert cuts.groups_by_name(["x/ann_1.png", "y/ben.png"], recipe) == ["ann", ""]
