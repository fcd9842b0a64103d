"""Both classifiers are timed in turn, on one image and on many."""

from __future__ import annotations

from pathlib import Path

import pytest

import opsin
from opsin.commands.export import speed
from opsin.commands.export.speed import compare_speed
from opsin.core.events import Watcher
from opsin.data.dataset import Dataset


class Turns(Watcher):
    def __init__(self) -> None:
        self.done: list[int] = []

    def advance(self, done: int, **figures: float) -> None:
        self.done.append(done)


def test_each_batch_size_has_seven_turns_of_both(
    nearest_mean: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_SECONDS", 0.005)
    classifier, watcher = opsin.Classifier(nearest_mean, threads=1), Turns()
    one, many = compare_speed(classifier, classifier, digits.images[:300], watcher)
    assert one.batch == 1 < many.batch <= 256
    for each in (one, many):
        assert len(each.before) == len(each.after) == 7
        assert min(*each.before, *each.after) > 0
    assert watcher.done == list(range(1, 15))
    (few,) = {each.batch for each in compare_speed(classifier, classifier, digits.images[:1],
                                                   watcher)}  # fmt: skip
    assert few == 1
