"""The paired test is fair to both sides, and says nothing that it has not shown."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from opsin.evaluation.comparison import (
    DifferenceTest,
    compare_answers,
    decide,
    difference_interval,
    holm,
    shown_best,
    sign_flip_test,
)


def tables(seed: int, count: int, first: float, second: float, times: int) -> Any:
    """Draw how often only the first, and only the second, is right."""
    random = np.random.default_rng(seed)
    drawn = random.multinomial(count, [first, second, 1 - first - second], times)
    return np.unique(drawn[:, :2], axis=0, return_counts=True)


def test_a_small_example_by_hand() -> None:
    labels = np.zeros(20, np.int64)
    first, second = labels.copy(), labels.copy()
    first[:8] = 1  # only the second is right
    second[8:9] = 1  # only the first
    first[9:12], second[9:11], second[11] = 1, 1, 2
    found = compare_answers(first, second, labels)
    assert (found.both_right, found.both_wrong) == (8, 3)
    assert (found.only_first, found.only_second, found.both_wrong_differently) == (1, 8, 1)
    assert found.difference == pytest.approx(7 / 20)
    # Twice the chance of at most one head in nine throws.
    assert found.p == pytest.approx(2 * (1 + 9) / 2**9)


@given(seed=st.integers(0, 99), count=st.integers(1, 300), classes=st.integers(2, 5))
def test_exchanging_the_two_turns_the_sign_alone(seed: int, count: int, classes: int) -> None:
    first, second, labels = np.random.default_rng(seed).integers(0, classes, (3, count))
    one = compare_answers(first, second, labels)
    other = compare_answers(second, first, labels)
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-12)
    assert (one.only_first, one.only_second) == (other.only_second, other.only_first)
    assert one.p == other.p
    better = {decide([test])[0].better for test in (one, other)}
    assert better in ({None}, {"first", "second"})
    parts = ("both_right", "only_first", "only_second", "both_wrong")
    assert sum(getattr(one, part) for part in parts) == one.images == count
    accuracy = np.mean(second == labels) - np.mean(first == labels)
    assert one.difference == pytest.approx(accuracy)
    assert -1 <= one.low <= one.difference <= one.high <= 1


@given(seed=st.integers(0, 20), count=st.integers(1, 500))
def test_the_same_answers_show_no_difference(seed: int, count: int) -> None:
    answers, labels = np.random.default_rng(seed).integers(0, 3, (2, count))
    found = compare_answers(answers, answers, labels)
    assert (found.p, found.difference, decide([found])[0].better) == (1.0, 0.0, None)
    # That none was seen is no proof that there is none.
    assert found.low == -found.high <= 0
    assert count < 3 or found.high > 0


@pytest.mark.parametrize(
    ("count", "first", "second"), [(1000, 0.05, 0.03), (5000, 0.02, 0.02), (200, 0.12, 0.20)]
)
def test_the_interval_covers_the_truth(count: int, first: float, second: float) -> None:
    found, times = tables(1, count, first, second, 700)
    ends = np.array([difference_interval(int(a), int(b), count) for a, b in found])
    held = (ends[:, 0] <= second - first) & (second - first <= ends[:, 1])
    assert 0.93 <= np.average(held, weights=times) <= 0.97


@pytest.mark.parametrize(("count", "share"), [(100, 0.1), (1000, 0.003), (1000, 0.1)])
def test_equal_classifiers_are_rarely_told_apart(count: int, share: float) -> None:
    found, times = tables(2, count, share, share, 250)
    told = []
    for only_first, only_second in found:
        first, second = np.zeros((2, count), np.int64)
        first[:only_second] = 1
        second[count - only_first :] = 1
        test = compare_answers(first, second, np.zeros(count, np.int64))
        told.append(decide([test])[0].better is not None)
    assert np.average(told, weights=times) <= 0.05


def test_out_of_fold_the_interval_is_wider_and_less_is_shown() -> None:
    labels = np.zeros(200, np.int64)
    poor, good = labels.copy(), labels.copy()
    poor[:10] = good[10:12] = 1
    for groups in (None, np.arange(200) // 2):
        narrow, wide = (
            compare_answers(poor, good, labels, groups, out_of_fold=out_of_fold)
            for out_of_fold in (False, True)
        )
        assert (wide.p, wide.difference) == (narrow.p, narrow.difference)
        assert wide.high - wide.low == pytest.approx(1.25 * (narrow.high - narrow.low))
        if groups is None:
            assert [decide([each])[0].better for each in (narrow, wide)] == ["second", None]
    assert shown_best([poor, good], labels) == 1
    assert shown_best([poor, good], labels, out_of_fold=True) is None


@pytest.mark.parametrize(
    ("p", "low", "high", "better"),
    [(0.01, 0.001, 0.02, "second"), (0.01, -0.02, -0.001, "first"), (0.01, 0.0, 0.02, None),
     (0.05, 0.001, 0.02, None), (0.2, -0.02, -0.001, None)],
)  # fmt: skip
def test_better_needs_both_of_them(p: float, low: float, high: float, better: str | None) -> None:
    test = DifferenceTest(p=p, low=low, high=high)
    assert decide([test])[0].better == better
    assert p > 0.001 and {each.better for each in decide([test] * 6)} == {None}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holms_values_keep_their_order_and_grow_by_at_most_their_number(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a <= b <= min(1.0, len(p) * a) for a, b in zip(p, adjusted, strict=True))
    ranked = [b for _, b in sorted(zip(p, adjusted, strict=True))]
    assert all(a <= b for a, b in pairwise(ranked))
    assert adjusted[p.index(min(p))] == min(1.0, len(p) * min(p))


def test_the_best_is_named_only_if_it_beats_every_other() -> None:
    labels = np.zeros(400, np.int64)
    poor, middle, good = labels.copy(), labels.copy(), labels.copy()
    poor[:120], middle[:40], good[:38] = 1, 1, 1
    assert shown_best([poor, middle], labels) == 1
    assert shown_best([poor, middle, good], labels) is None
    assert shown_best([middle, poor, labels], labels) == 2


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_the_test_by_groups_counts_every_choice_of_signs(differences: list[int]) -> None:
    of_signs = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        >= abs(sum(differences))
        for signs in product((-1, 1), repeat=len(differences))
    ]
    assert sign_flip_test(np.array(differences)) == pytest.approx(np.mean(of_signs), abs=1e-12)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_test_by_groups_of_one_image_is_mcnemars(first: int, second: int) -> None:
    found = sign_flip_test(np.repeat([-1, 1], [first, second]))
    expected = compare_answers(
        np.repeat([0, 1], [first, second + 1]),
        np.repeat([1, 0], [first, second + 1]),
        np.zeros(first + second + 1, np.int64),
    )
    one_less = np.repeat([-1, 1], [first, second + 1])
    assert sign_flip_test(one_less) == pytest.approx(expected.p, abs=1e-12)
    assert 0 < found <= 1


def in_groups(
    random: np.random.Generator, groups: int, each: int, first: float, second: float
) -> tuple[Any, Any, Any, Any]:
    """Draw two classifiers' answers whose disagreements come in groups, correlated by 0.25."""
    shares = random.dirichlet(np.array([first, second, 1 - first - second]) * 3, groups)
    kind = np.repeat(np.tile(np.arange(3), groups), random.multinomial(each, shares).ravel())
    labels = np.zeros(len(kind), np.int64)
    return (kind == 1).astype(int), (kind == 0).astype(int), labels, np.arange(groups).repeat(each)


@pytest.mark.parametrize(("groups", "each"), [(20, 5), (20, 10), (20, 20), (100, 2)])
def test_the_interval_by_groups_covers_the_truth(groups: int, each: int) -> None:
    random = np.random.default_rng(11)
    held = []
    for _ in range(700):
        found = compare_answers(*in_groups(random, groups, each, 0.1, 0.2))
        held.append(found.low <= 0.1 <= found.high)
    assert np.mean(held) >= 0.93


def test_equal_classifiers_are_rarely_told_apart_where_images_come_in_groups() -> None:
    random = np.random.default_rng(12)
    by_groups, by_images = [], []
    for _ in range(400):
        first, second, labels, groups = in_groups(random, 20, 10, 0.15, 0.15)
        by_groups.append(compare_answers(first, second, labels, groups).p)
        by_images.append(compare_answers(first, second, labels).p)
    assert np.mean(np.array(by_groups) < 0.05) <= 0.06
    assert np.mean(np.array(by_images) < 0.05) >= 0.12
