"""Every epoch shows what its recipe says, once and in its order, from memory or from files."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from opsin.core.metadata import Preparation
from opsin.core.recipe import DataRecipe, TrainingRecipe
from opsin.data.lazy_images import decode_lazily
from opsin.models.resolve import resolve
from opsin.training.batches import (
    TrainingBatches,
    class_weights,
    epoch_order,
    mirrored_in,
    spans_of,
    with_balance,
)
from opsin.training.process_group import ProcessGroup

CPU = torch.device("cpu")


@given(
    count=st.integers(2, 500),
    size=st.integers(8, 64),
    start=st.integers(0, 400),
    world=st.integers(1, 4),
)
def test_spans_cover_all_and_none_is_single(count: int, size: int, start: int, world: int) -> None:
    spans = list(spans_of(count, size, start, world))
    if start >= count:
        assert not spans
        return
    assert spans[0][0] == start
    assert spans[-1][1] == count
    assert all(one[1] == two[0] for one, two in itertools.pairwise(spans))
    least = max(2, world)
    assert all(1 <= end - begin < size + least for begin, end in spans)
    if count - start >= least:
        assert all(end - begin >= least for begin, end in spans)


def test_processes_share_each_batch() -> None:
    pixels = np.arange(21, dtype=np.uint8).reshape(21, 1, 1, 1)
    labels, rows = np.arange(21), np.arange(20)
    order = np.random.default_rng(0).permutation(20)

    def batches(world: int) -> list[list[int]]:
        shares = [
            TrainingBatches(pixels, labels, rows, CPU, ProcessGroup(rank, world)).batches(order, 6)
            for rank in range(world)
        ]
        return [
            sorted(number for _, labels in batch for number in labels.tolist())
            for batch in zip(*shares, strict=True)
        ]

    whole = batches(1)
    assert [len(batch) for batch in whole] == [6, 6, 6, 2]
    assert batches(2) == whole
    # Three processes need three images in the last batch, or it joins the one before.
    assert batches(3) == [whole[0], whole[1], sorted([*whole[2], *whole[3]])]


@given(start=st.integers(0, 19), seed=st.integers(0, 9))
def test_images_read_on_the_fly_are_those_in_memory(start: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (30, 6, 6, 1), np.uint8)
    labels = np.arange(30)
    rows = random.permutation(30)[:20]
    like = Preparation(height=6, width=6, channels=1, resize="fit")
    lazy = decode_lazily(pixels, [str(i) for i in range(30)], like)
    order = random.permutation(20)
    parts = [
        list(TrainingBatches(images, labels, rows, CPU).batches(order, 4, start))
        for images in (pixels, lazy)
    ]
    for one, two in zip(*parts, strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
    shown = torch.cat([labels for _, labels in parts[0]]).tolist()
    assert shown == rows[order[start:]].tolist()


def test_a_loop_that_is_left_early_leaves_no_thread_waiting() -> None:
    like = Preparation(height=6, width=6, channels=1, resize="fit")
    lazy = decode_lazily(np.zeros((30, 6, 6, 1), np.uint8), ["x"] * 30, like)
    batches = TrainingBatches(lazy, np.zeros(30, np.int64), np.arange(30), CPU).batches(
        np.arange(30), 4
    )
    next(batches)
    batches.close()  # type: ignore[attr-defined]


#: Images of each class; some may have none.
COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(lambda c: sum(c) > 0)
BALANCES = st.sampled_from(["auto", "none", "weights", "sampling"])


def recipe_of(balance: str, seed: int = 0) -> TrainingRecipe:
    return resolve(DataRecipe.of("x"), balance=balance, seed=seed).training


def labels_of(counts: list[int]) -> NDArray[np.int64]:
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(1).permutation(labels)


@given(counts=COUNTS, balance=BALANCES, seed=st.integers(0, 9), epoch=st.integers(1, 99))
def test_an_order_is_found_again(counts: list[int], balance: str, seed: int, epoch: int) -> None:
    labels, recipe = labels_of(counts), recipe_of(balance, seed)
    one, two = (epoch_order(labels, recipe, epoch, len(counts)) for _ in range(2))
    assert np.array_equal(one, two)
    assert one.dtype == np.int64
    assert len(one) == len(labels)
    if balance != "sampling":
        assert np.array_equal(np.sort(one), np.arange(len(labels)))


@given(counts=COUNTS, epochs=st.integers(1, 12))
def test_sampling_is_even_over_classes_and_their_images(counts: list[int], epochs: int) -> None:
    labels, recipe = labels_of(counts), recipe_of("sampling")
    drawn = np.zeros(len(labels), np.int64)
    for epoch in range(1, epochs + 1):
        order = epoch_order(labels, recipe, epoch, len(counts))
        own = np.bincount(order, minlength=len(labels))
        drawn += own
        by_class = np.bincount(labels, own, minlength=len(counts))[np.array(counts) > 0]
        assert by_class.max() - by_class.min() <= 1
        for label in set(labels.tolist()):
            assert np.ptp(own[labels == label]) <= 2
    for label in set(labels.tolist()):
        # Passes go on from epoch to epoch, so that no image falls behind by more than one.
        assert np.ptp(drawn[labels == label]) <= 1


def test_rare_classes_weigh_more() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    weights = class_weights(labels, 2)
    assert weights.dtype == np.float32
    assert weights[1] / weights[0] == pytest.approx(9)
    assert weights[labels].mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("counts", "choice", "words"),
    [
        ([50, 0, 50], "none", ""),
        ([0, 0], "none", ""),
        ([99, 10, 40], "none", ""),
        ([100, 10, 40], "sampling", "10 times"),
        ([4100, 900, 700, 300, 200, 150, 120, 110, 105, 100], "sampling", "drawn more often"),
        ([4100, 100], "weights", "come 21 times an epoch"),
        ([1_000_000, 1], "weights", "1,000,000 times the images"),
    ],
)
def test_counts_decide_how_to_balance_classes(counts: list[int], choice: str, words: str) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    recipe, reasons = with_balance(recipe_of("auto"), labels, len(counts))
    assert recipe.balance == choice
    assert words in reasons["Balance"] if words else not reasons


@given(count=st.integers(1, 500), epoch=st.integers(1, 98), seed=st.integers(0, 9))
def test_every_image_is_mirrored_every_other_time(count: int, epoch: int, seed: int) -> None:
    recipe = recipe_of("none", seed)
    now, next_, after = (mirrored_in(epoch + later, recipe, count) for later in range(3))
    assert (now ^ next_).all()
    assert np.array_equal(now, after)
