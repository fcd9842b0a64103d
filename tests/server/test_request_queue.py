"""The queue is bounded, in order, and gives out nothing that nobody wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.server.request_queue import BATCH_BYTES, QueueEntry, RequestQueue

Step = tuple[str, int, int, int, bool]


def one(model: str = "m", size: int = 1, deadline: float = 9, **more: bool) -> QueueEntry[str, str]:
    return QueueEntry(model, size, deadline, "request", **more)


def test_all_of_a_request_or_nothing_of_it() -> None:
    waiting = RequestQueue[str, str](3, 100)
    assert waiting.add([one(), one()])
    assert not waiting.add([one(), one()])
    assert (waiting.images, waiting.bytes) == (2, 2)
    assert waiting.add([one(size=98)])
    assert not waiting.add([one()])
    assert waiting.bytes == 100


def test_bytes_are_bounded_too() -> None:
    waiting = RequestQueue[str, str](1000, 100)
    assert waiting.add([one(size=60)])
    assert not waiting.add([one(size=41)])
    assert waiting.add([one(size=40)])


def test_models_take_turns_by_who_waited_longest() -> None:
    waiting = RequestQueue[str, str](9, 100)
    first, second, third = one("a"), one("b"), one("a")
    waiting.add([first, second, third])
    assert waiting.take(0, most=9) == [first, third]
    assert waiting.take(0, most=9) == [second]
    assert waiting.take(0, most=9) == []


def test_whoever_came_too_late_keeps_no_place_for_those_behind() -> None:
    waiting = RequestQueue[str, str](9, 100)
    first, second = one("b"), one("a")
    waiting.add([one("a", deadline=1), first, second])
    assert waiting.take(2, most=9) == [first]
    assert waiting.take(2, most=9) == [second]


@pytest.mark.parametrize(
    ("count", "among", "share"), [(10, 2, 5), (3, 2, 2), (1, 4, 1), (99, 2, 8)]
)
def test_what_waits_is_shared_out_evenly(count: int, among: int, share: int) -> None:
    waiting = RequestQueue[str, str](100, 1000)
    waiting.add([one() for _ in range(count)])
    assert len(waiting.take(0, most=8, among=among)) == share


def test_a_batch_that_could_still_grow_is_left_to_grow() -> None:
    waiting = RequestQueue[str, str](100, 1000)
    waiting.add([one() for _ in range(7)])
    assert waiting.take(0, most=8, least=8) == []
    waiting.add([one()])
    assert len(waiting.take(0, most=8, least=8)) == 8


def test_images_that_take_long_go_alone_and_may_be_kept_back() -> None:
    waiting = RequestQueue[str, str](100, 1000)
    slow, quick = [one(alone=True), one(alone=True)], [one(), one()]
    waiting.add([*slow, *quick])
    assert waiting.take(0, most=8, alone=False) == quick
    assert waiting.take(0, most=8, alone=False) == []
    assert waiting.take(0, most=8) == slow[:1]


def test_large_images_do_not_hold_up_each_other() -> None:
    waiting = RequestQueue[str, str](100, 10 * BATCH_BYTES)
    waiting.add([one(size=BATCH_BYTES // 2 + 1) for _ in range(3)] + [one(size=2 * BATCH_BYTES)])
    assert [len(waiting.take(0, most=8)) for _ in range(5)] == [1, 1, 1, 1, 0]


_STEPS = st.tuples(
    st.sampled_from(["add", "add", "add", "drop", "take", "wait"]),
    st.integers(1, 5), st.integers(0, 40), st.integers(1, 6), st.booleans(),
)  # fmt: skip


@given(steps=st.lists(_STEPS, max_size=60), most=st.integers(1, 4))
def test_whatever_happens(steps: list[Step], most: int) -> None:
    """Never beyond the bounds, never twice, never expired or dropped, in order of arrival."""
    waiting, now = RequestQueue[str, str](10, 200), 0.0
    live: list[QueueEntry[str, str]] = []
    over: set[QueueEntry[str, str]] = set()
    for what, count, size, life, flag in steps:
        if what == "add":
            new = [one("ab"[flag], size, now + life, alone=life == 6) for _ in range(count)]
            fits = len(live) + count <= 10 and sum(w.size for w in live) + size * count <= 200
            assert waiting.add(new) is fits
            live += new if fits else []
        elif what == "drop" and live:
            gone = live.pop(size % len(live))
            assert waiting.drop(gone)
            assert not waiting.drop(gone)
            over.add(gone)
        elif what == "wait":
            now += count
        elif what == "take":
            batch = waiting.take(now, most=most, alone=flag)
            assert len(batch) <= (1 if batch and batch[0].alone else most)
            assert all(w.deadline > now and w not in over for w in batch)
            assert all(w.alone is False for w in batch if not flag)
            wanted = [w for w in live if w.deadline > now and (flag or not w.alone)]
            lane = [w for w in wanted if (w.model, w.alone) == (wanted[0].model, wanted[0].alone)]
            assert batch == lane[: len(batch)]
            assert bool(batch) == bool(wanted)
            over |= set(batch)
            # Those whose time is over may wait until somebody comes to them.
            live = [w for w in live if w not in batch]
            live = [w for w in live if w.deadline > now or w in waiting]
        assert waiting.images == len(live) <= 10
        assert waiting.bytes == sum(w.size for w in live) <= 200
