"""Figures have units and intervals, and the digits that matter."""

from __future__ import annotations

import pytest

from opsin.core.format import ago, clock, file_size, with_interval


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (72, "1:12"), (3849, "1:04:09")]
)
def test_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"), (30, "just now"), (3600, "1 h ago"), (86_400, "yesterday"),
        (3 * 86_400, "3 days ago"),
    ],
)  # fmt: skip
def test_how_long_ago(seconds: float, words: str) -> None:
    assert ago(1e9, now=1e9 + seconds) == words


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (-1, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (12_400, "0.01 MB"), (970_000, "0.97 MB"),
        (9_990_000, "9.99 MB"), (12_400_000, "12.4 MB"), (250e6, "250 MB"), (1.2e9, "1.2 GB"),
    ],
)  # fmt: skip
def test_sizes(size: float, text: str) -> None:
    assert file_size(size) == text


def test_an_interval_shows_its_larger_half() -> None:
    assert with_interval(None) == "–"
    assert with_interval(0.5) == "0.5000"
    assert with_interval(1.0, 0.9963, 1.0) == "1.0000 ± 0.0037"
