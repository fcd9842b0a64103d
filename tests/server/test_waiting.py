"""The queue is bounded, in order, and gives out nothing that nobody wants."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi")
from opsin.server.waiting import BATCH_BYTES, QueueEntry, RequestQueue


class Request:
    def __init__(self, model: str) -> None:
        self.model = model


def one(model: str = "m", size: int = 1, *, alone: bool = False) -> QueueEntry:
    return QueueEntry(cast("Any", Request(model)), 0, size, alone)


@pytest.mark.parametrize(
    ("count", "among", "share"), [(10, 2, 5), (3, 2, 2), (1, 4, 1), (99, 2, 8)]
)
def test_what_waits_is_shared_out_evenly(count: int, among: int, share: int) -> None:
    waiting = RequestQueue(100)
    waiting.add([one() for _ in range(count)])
    assert len(waiting.take(most=8, among=among)) == share


def test_a_batch_that_could_still_grow_is_left_to_grow() -> None:
    waiting = RequestQueue(100)
    waiting.add([one() for _ in range(7)])
    assert waiting.take(most=8, least=8) == []
    waiting.add([one()])
    assert len(waiting.take(most=8, least=8)) == 8


def test_large_images_do_not_hold_up_each_other() -> None:
    waiting = RequestQueue(100)
    waiting.add([one(size=BATCH_BYTES // 2 + 1) for _ in range(3)] + [one(size=2 * BATCH_BYTES)])
    assert [len(waiting.take(most=8)) for _ in range(5)] == [1, 1, 1, 1, 0]


_STEPS = st.tuples(
    st.sampled_from(["add", "add", "drop", "take"]), st.integers(1, 5), st.integers(0, 40),
    st.booleans(), st.booleans(),
)  # fmt: skip


@given(steps=st.lists(_STEPS, max_size=60), most=st.integers(1, 4))
def test_whatever_happens(steps: list[tuple[str, int, int, bool, bool]], most: int) -> None:
    """Never beyond the bounds, never twice, never dropped, in order of arrival."""
    waiting = RequestQueue(10)
    live: list[QueueEntry] = []
    for what, count, size, second, alone in steps:
        if what == "add":
            new = [one("ab"[second], size, alone=alone) for _ in range(count)]
            fits = len(live) + count <= 10
            assert waiting.add(new) is fits
            live += new if fits else []
        elif what == "drop" and live:
            gone = live.pop(size % len(live))
            waiting.drop(gone)
            waiting.drop(gone)
        elif what == "take":
            batch = waiting.take(most=most)
            assert bool(batch) == bool(live)
            lane = [w for w in live if w.request.model == live[0].request.model]
            assert batch == lane[: len(batch)]
            assert len(batch) <= most
            assert len(batch) == 1 or not any(w.alone for w in batch)
            live = [w for w in live if w not in batch]
        assert len(waiting) == len(live) <= 10
