"""The queue gives out batches in order, and nothing that nobody wants."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi")
from opsin.server.engine import BATCH_BYTES, Entry, Queue, next_batch


def one(model: str = "m", size: int = 1, *, alone: bool = False) -> Entry:
    none = cast("Any", None)
    return Entry(cast("Any", model), none, bytes(size), alone, none)


def queue(*entries: Entry) -> Queue:
    return Queue.fromkeys(entries)


@pytest.mark.parametrize(
    ("count", "among", "share"), [(10, 2, 5), (3, 2, 2), (1, 4, 1), (99, 2, 8)]
)
def test_what_waits_is_shared_out_evenly(count: int, among: int, share: int) -> None:
    waiting = queue(*(one() for _ in range(count)))
    assert len(next_batch(waiting, 8, among=among)) == share


def test_a_batch_that_could_still_grow_is_left_to_grow() -> None:
    waiting = queue(*(one() for _ in range(7)))
    assert next_batch(waiting, 8, least=8) == []
    waiting[one()] = None
    assert len(next_batch(waiting, 8, least=8)) == 8


def test_large_images_do_not_hold_up_each_other() -> None:
    half = BATCH_BYTES // 2 + 1
    waiting = queue(*(one(size=size) for size in (half, half, half, 2 * BATCH_BYTES)))
    assert [len(next_batch(waiting, 8)) for _ in range(5)] == [1, 1, 1, 1, 0]


_ENTRY = st.builds(one, st.sampled_from("ab"), st.integers(0, 40), alone=st.booleans())


@given(entries=st.lists(_ENTRY, max_size=30), most=st.integers(1, 4))
def test_whatever_waits(entries: list[Entry], most: int) -> None:
    """Never beyond the bounds, never twice, never dropped, in order of arrival."""
    waiting = queue(*entries)
    while entries:
        batch = next_batch(waiting, most)
        lane = [entry for entry in entries if entry.model == entries[0].model]
        assert batch == lane[: len(batch)]
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or not any(entry.alone for entry in batch)
        entries = [entry for entry in entries if entry not in batch]
        assert list(waiting) == entries
    assert next_batch(waiting, most) == []
