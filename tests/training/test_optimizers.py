"""Rates follow their schedule, and weight decay spares what it should."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from opsin.core.recipe import DataRecipe, TrainingRecipe
from opsin.models.resolve import resolve
from opsin.training.optimizers import make_optimizers, rate_at


def recipe(**options: Any) -> TrainingRecipe:
    return resolve(DataRecipe.of("x"), model="cnn", **options).training


@given(
    schedule=st.sampled_from(["constant", "cosine", "one-cycle", "step"]), progress=st.floats(0, 1)
)
def test_the_rate_never_passes_its_peak(schedule: str, progress: float) -> None:
    assert 0 <= rate_at(recipe(schedule=schedule, learning_rate=0.5), progress) <= 0.5


@pytest.mark.parametrize(
    ("schedule", "start", "quarter", "end"),
    [
        ("constant", 1, 1, 1),
        ("cosine", 1, 0.854, 0),
        ("one-cycle", 0.04, 1, 0),
        ("step", 1, 1, 0.01),
    ],
)
def test_schedules(schedule: str, start: float, quarter: float, end: float) -> None:
    rates = [rate_at(recipe(schedule=schedule, learning_rate=1.0), at) for at in (0.0, 0.25, 1.0)]
    assert rates == pytest.approx([start, quarter, end], abs=1e-3)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_biases_and_scales_do_not_decay(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    [(optimizer, _)] = make_optimizers(network, recipe(optimizer=name, weight_decay=0.1))
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups
              for p in group["params"]}  # fmt: skip
    assert decays == {4: 0.1, 1: 0.0}


def test_muon_takes_the_convolutions_and_adamw_the_rest() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    (muon, whole), (rest, share) = make_optimizers(network, recipe(optimizer="muon"))
    shapes = [[tuple(p.shape) for g in o.param_groups for p in g["params"]] for o in (muon, rest)]
    assert shapes[0] == [(8, 3, 3, 3)]
    assert sorted(shapes[1]) == [(2,), (2, 8), (8,), (8,), (8,)]
    assert (whole, share) == (1.0, 0.2)
