"""Intervals hold the truth about as often as they say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from opsin.evaluation.intervals import of_mean, share, wilson
from opsin.evaluation.metric_table import METRICS
from opsin.evaluation.metrics import ScoredAnswers, measure


@given(count=st.integers(1, 5000), share=st.floats(0, 1))
def test_a_share_lies_in_its_interval_within_0_and_1(count: int, share: float) -> None:
    right = round(share * count)
    low, high = wilson(right, count)
    assert 0 <= low <= right / count <= high <= 1


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_means_are_covered() -> None:
    random = np.random.default_rng(1)
    # As log losses are: most small, some large. Their mean is 1.
    ends = [of_mean(random.gamma(0.5, 2.0, 500)) for _ in range(600)]
    hits = [end is not None and end[0] <= 1 <= end[1] for end in ends]
    assert 0.93 <= np.mean(hits) <= 0.97


def test_figures_without_a_mistake_still_have_an_interval() -> None:
    answers = np.eye(3)[[0] * 20 + [1] * 20 + [2] * 20].astype(np.float32)
    figures = measure(answers, answers.argmax(axis=1), list("abc"))
    assert figures.classes[0].f1_interval == pytest.approx(wilson(20, 20))
    assert figures.intervals["macro_f1"] == pytest.approx(wilson(60, 60))


def test_too_many_values_to_resample_have_the_interval_of_a_normal_mean() -> None:
    values = np.random.default_rng(2).normal(5, 2, 1_100_000)
    ends = of_mean(values)
    assert ends is not None
    low, high = ends
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * 2 / 1_100_000**0.5, rel=0.01)


def beta_of_groups(
    random: np.random.Generator, share: float | NDArray[np.float64], groups: int, correlation: float
) -> NDArray[np.float64]:
    """Draw each group's own share; two images of a group are correlated by ``correlation``."""
    spread = (1 - correlation) / correlation
    return random.beta(share * spread, (1 - share) * spread, groups)


@pytest.mark.parametrize(
    ("groups", "each", "share_right"),
    [(200, 1, 0.9), (40, 5, 0.9), (20, 20, 0.8), (20, 10, 0.8), (10, 20, 0.8), (20, 10, 0.95)],
)
def test_shares_of_grouped_images_are_covered(groups: int, each: int, share_right: float) -> None:
    random = np.random.default_rng(5)
    numbers = np.arange(groups).repeat(each)
    hits = []
    for _ in range(2500):
        own = beta_of_groups(random, share_right, groups, 0.25)[numbers]
        low, high = share(random.random(groups * each) < own, numbers)
        hits.append(low <= share_right <= high)
    # With one wrong of twenty, coverage comes in steps.
    assert 0.93 <= np.mean(hits) <= (0.97 if share_right < 0.95 else 0.985)


@pytest.mark.parametrize(("groups", "each"), [(100, 2), (20, 10), (20, 20)])
def test_means_are_covered_whose_images_come_in_groups(groups: int, each: int) -> None:
    random = np.random.default_rng(7)
    hits = []
    for _ in range(2000):
        # Losses of a group have a factor in common; their mean is 1.
        own = random.gamma(2.0, 0.5, groups).repeat(each)
        ends = of_mean(own * random.gamma(1.0, 1.0, own.size), np.arange(groups).repeat(each))
        assert ends is not None
        hits.append(ends[0] <= 1 <= ends[1])
    assert 0.93 <= np.mean(hits) <= 0.97


def grouped_answers(
    random: np.random.Generator, groups: int, each: int, *, mixed: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Draw answers to four classes, and the groups; a group has images of one class, or of all."""
    numbers = np.arange(groups).repeat(each)
    of_group = random.integers(0, 4, groups)
    labels = random.integers(0, 4, groups * each) if mixed else of_group[numbers]
    shift = random.normal(0, 0.5, groups)[numbers]
    right = random.random(groups * each) < 1 / (1 + np.exp(-(2.5 - 0.4 * labels + shift)))
    answers = np.where(right, labels, (labels + random.integers(1, 4, len(labels))) % 4)
    probabilities = np.full((len(labels), 4), 0.1, np.float32)
    sure = random.uniform(0.6, 0.8, len(labels))
    probabilities[np.arange(len(labels)), answers] = sure
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels, numbers


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize(("groups", "each"), [(400, 1), (20, 10), (20, 20), (60, 5)])
def test_figures_of_grouped_images_are_covered(groups: int, each: int, *, mixed: bool) -> None:
    random = np.random.default_rng(8)
    names = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "log_loss", "brier")
    metrics: list[Any] = [metric for metric in METRICS if metric.key in names]
    many = ScoredAnswers(*grouped_answers(random, 50_000, 4, mixed=mixed)[:2])
    truth = [metric.compute(many)[0] for metric in metrics]
    hits = []
    for _ in range(600):
        scored = ScoredAnswers(*grouped_answers(random, groups, each, mixed=mixed))
        ends = [metric.compute(scored)[1] for metric in metrics]
        hits.append([low <= value <= high for (low, high), value in zip(ends, truth, strict=True)])
    covered = np.mean(hits, axis=0)
    assert np.all((covered >= 0.925) & (covered <= 0.985)), dict(zip(names, covered, strict=True))


@given(st.integers(0, 10_000), st.integers(2, 60))
def test_groups_of_one_image_change_no_interval(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(7), count).astype(np.float32)
    labels, alone = random.integers(0, 7, count), random.permutation(count)
    assert measure(probabilities, labels, list("abcdefg"), alone) == measure(
        probabilities, labels, list("abcdefg")
    )


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 60), st.floats(0, 1))
def test_intervals_by_groups_hold_figures(seed: int, groups: int, count: int, sure: float) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(6, 0.3), count).astype(np.float32)
    labels = np.where(
        random.random(count) < sure, probabilities.argmax(axis=1), random.integers(0, 6, count)
    )
    numbers = random.integers(0, groups, count)
    figures = measure(probabilities, labels, list("abcdef"), numbers)
    assert (figures.groups or count) == len(np.unique(numbers))
    named = {"accuracy", "top5_accuracy", "balanced_accuracy", "macro_f1", "weighted_f1"}
    named |= {"log_loss", "brier"}
    assert set(figures.intervals) <= named and (groups == 1 or figures.intervals)
    for name, (low, high) in figures.intervals.items():
        value = getattr(figures, name)
        assert low <= value + 1e-12, name
        assert value <= high + 1e-12, name
    for each in figures.classes:
        if each.count:
            assert each.f1_interval is not None
            assert 0 <= each.f1_interval[0] <= each.f1_interval[1] <= 1


def test_more_groups_than_are_left_out_in_turn_are_pooled() -> None:
    random = np.random.default_rng(9)
    labels, numbers = random.integers(0, 4, 12_000), np.arange(6_000).repeat(2)
    answers = np.where(random.random(12_000) < 0.9, labels, (labels + 1) % 4)
    probabilities = np.eye(4, dtype=np.float32)[answers]
    ends = [
        ScoredAnswers(probabilities, labels, each).mean_over_classes(1)[1]
        for each in (numbers, None)
    ]
    # The images of a pair are independent here, so that both are about as wide.
    one, other = (high - low for low, high in filter(None, ends))
    assert one == pytest.approx(other, rel=0.15)
