"""Every image comes once, in the order that was asked for, from memory or from files."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.metadata import Preparation
from opsin.data.lazy_images import decode_lazily
from opsin.training.batches import TrainingBatches, spans_of
from opsin.training.process_group import ProcessGroup

CPU = torch.device("cpu")


@given(
    count=st.integers(2, 500),
    size=st.integers(8, 64),
    start=st.integers(0, 400),
    world=st.integers(1, 4),
)
def test_batches_cover_everything_and_none_is_single(
    count: int, size: int, start: int, world: int
) -> None:
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
