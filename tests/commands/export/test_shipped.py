"""The verdict says what was measured, and calls nothing faster that a turn contradicts."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from opsin.commands.export.smaller import Quality, Shipped, Speed

rates = st.lists(st.floats(1, 1e6), min_size=7, max_size=7).map(tuple)


def quality(accuracy: float) -> Quality:
    return Quality(images=100, accuracy=accuracy, low=0.9, high=1.0, log_loss=0.2, refused=0.02)


def shipped(*speed: tuple[int, tuple[float, ...], tuple[float, ...]]) -> Shipped:
    return Shipped(
        path=Path("classifier-int8.onnx"), to="int8", bytes=250, bytes_before=1000, part="test",
        images=10_000, labels_changed=12, largest_difference=0.1, before=quality(0.95),
        after=quality(0.949), looks=2, speed=tuple(Speed.of(*each) for each in speed),
    )  # fmt: skip


@given(rates, rates)
def test_faster_and_slower_need_every_turn(
    before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    speed, turned = Speed.of(64, before, after), Speed.of(64, after, before)
    assert speed.shown == turned.shown
    wins = {new > old for old, new in zip(before, after, strict=True)}
    assert not speed.shown or (len(wins) == 1 and abs(speed.ratio - 1) > 0.04)
    assert ("times as fast" in speed.in_words()) == speed.shown


def test_a_file_that_is_not_faster_says_so() -> None:
    quick = shipped((1, (100.0, 90.0), (210.0, 180.0)), (256, (10.0,), (25.0,)))
    assert "2.05 times as fast one image at a time" in quick.verdict
    slow = shipped((1, (100.0, 100.0), (99.0, 101.0)), (256, (10.0,), (8.0,)))
    assert "as fast as before one image at a time" in slow.verdict
    assert "not faster on this machine" in slow.verdict
