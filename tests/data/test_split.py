"""Splits never overlap, keep copies together, and follow content alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.data.split import TEST, TRAIN, UNASSIGNED, VAL, Split, count_leaks, make_split
from opsin.errors import SourceError


def digests(contents: list[int]) -> NDArray[np.uint8]:
    rows = [hashlib.sha256(str(content).encode()).digest() for content in contents]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)


def split(
    labels: list[int], contents: list[int] | None = None, given: int = UNASSIGNED, seed: int = 0
) -> Split:
    return make_split(
        np.array(labels, np.int64),
        digests(contents or list(range(len(labels)))),
        np.full(len(labels), given, np.uint8),
        [str(label) for label in range(max(labels) + 1)],
        seed=seed,
    )


sizes = st.lists(st.integers(3, 60), min_size=2, max_size=5)


@given(sizes=sizes, seed=st.integers(0, 5))
def test_each_picture_is_in_one_part_and_each_class_in_train_and_val(
    sizes: list[int], seed: int
) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    parts = split(labels, seed=seed)
    rows = np.concatenate([parts.train, parts.val, parts.test])
    assert sorted(rows.tolist()) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        count = {p: int(np.sum(np.array(labels)[parts.rows(p)] == label))
                 for p in ("train", "val", "test")}  # fmt: skip
        assert count["train"] >= 1
        assert count["val"] >= 1
        # Within one picture of a tenth, where the class is large enough to have a choice.
        assert abs(count["val"] - max(1, size / 10)) <= 1
        assert abs(count["test"] - size / 10) <= 1


@given(sizes=sizes, order=st.randoms(use_true_random=False))
def test_the_order_of_the_files_changes_nothing(sizes: list[int], order: object) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    shuffled = list(range(len(labels)))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    plain = split(labels)
    moved = split([labels[i] for i in shuffled], shuffled)
    for part in ("train", "val", "test"):
        assert {shuffled[row] for row in moved.rows(part)} == set(plain.rows(part).tolist())


@given(contents=st.lists(st.integers(0, 8), min_size=30, max_size=60), seed=st.integers(0, 9))
def test_copies_stay_together(contents: list[int], seed: int) -> None:
    labels = [0] * len(contents) + [1] * 20
    contents = [*contents, *range(100, 120)]
    try:
        parts = split(labels, contents, seed=seed)
    except SourceError as error:
        assert "at least two different" in str(error)
        assert len(set(contents[:-20])) == 1
        return
    sides = [{contents[row] for row in parts.rows(part)} for part in ("train", "val", "test")]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_another_seed_gives_another_split() -> None:
    labels = [0] * 50 + [1] * 50
    assert split(labels).val.tolist() == split(labels).val.tolist()
    assert split(labels).val.tolist() != split(labels, seed=1).val.tolist()


def test_given_parts_stay_and_validation_is_cut_from_training() -> None:
    labels = np.tile([0, 1], 50)
    given = np.full(100, TRAIN, np.uint8)
    given[80:] = TEST
    parts = make_split(labels, digests(list(range(100))), given, ["a", "b"])
    assert parts.test.tolist() == list(range(80, 100))
    assert len(parts.val) == 8
    assert parts.val.max() < 80
    given[60:80] = VAL
    parts = make_split(labels, digests(list(range(100))), given, ["a", "b"])
    assert parts.val.tolist() == list(range(60, 80))


def test_a_training_part_without_test_leaves_the_test_empty() -> None:
    parts = split([0] * 20 + [1] * 20, given=TRAIN)
    assert len(parts.test) == 0
    assert len(parts.val) == 4


@pytest.mark.parametrize("contents", [[0, 1, 2, 2], [0, 0, 0, 1]])
def test_a_class_of_copies_is_refused(contents: list[int]) -> None:
    labels = [0, 0, 1, 1]
    with pytest.raises(SourceError, match="different training pictures"):
        split(labels, contents)


def test_leaks_are_counted_by_content() -> None:
    parts = Split(np.array([0, 1]), np.array([2]), np.array([3, 4, 5]))
    assert count_leaks(parts, digests([7, 8, 9, 7, 9, 1])) == 2
    assert count_leaks(Split(parts.train, parts.val, np.array([], np.int64)), digests([1] * 6)) == 0


def test_a_few_copies_leave_the_rest_to_be_split() -> None:
    """Twelve equal pictures among a hundred stay together, and the shares are still a tenth."""
    contents = [*([7] * 12), *range(100, 188), *range(200, 300)]
    for seed in range(30):
        parts = split([0] * 100 + [1] * 100, contents, seed=seed)
        assert len(parts.val) == len(parts.test) == 20
        assert (
            len({contents[row] for row in parts.train} & {contents[row] for row in parts.val}) == 0
        )
