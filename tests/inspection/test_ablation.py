"""Switching a unit off is counted picture by picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from opsin.inspection.ablation import SwitchedOff


def answer(values: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
    layer, past = values
    return np.asarray((layer.reshape(len(layer), layer.shape[1], -1).sum(axis=2) + past).argmax(1))


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_it_counts_what_setting_to_zero_changes(
    seed: int, count: int, size: int, maps: bool
) -> None:
    random = np.random.default_rng(seed)
    shape = (count, 3, 2, 2) if maps else (count, 3)
    layer = np.maximum(random.standard_normal(shape, np.float32), 0)
    past = random.standard_normal((count, 3), np.float32)
    labels = random.integers(0, 3, count)
    kept = layer.copy()
    off = SwitchedOff(answer, np.array([0, 2]), 3)
    for start in range(0, count, size):
        some = slice(start, start + size)
        assert list(off.add([layer[some], past[some]], labels[some])) == [0, 2]
    assert np.array_equal(layer, kept)
    before = answer([layer, past]) == labels
    assert off.images.tolist() == np.bincount(labels, minlength=3).tolist()
    assert off.right.tolist() == np.bincount(labels[before], minlength=3).tolist()
    for place, unit in enumerate((0, 2)):
        without = layer.copy()
        without[:, unit] = 0
        after = answer([without, past]) == labels
        for label in range(3):
            of = labels == label
            assert off.lost[place, label] == (of & before & ~after).sum()
            assert off.gained[place, label] == (of & ~before & after).sum()


def test_a_unit_that_is_zero_everywhere_is_not_asked_about() -> None:
    asked = []

    def counted(values: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
        asked.append(len(values[0]))
        return answer(values)

    layer = np.array([[0, 1], [0, 0], [0, 2]], np.float32)
    off = SwitchedOff(counted, np.array([0, 1]), 2)
    list(off.add([layer, np.zeros((3, 2), np.float32)], np.array([1, 1, 0])))
    assert asked == [3, 2]
