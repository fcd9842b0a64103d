"""Rates follow their schedule, decay spares what it should, and Muon's steps are orthogonal."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from opsin.core.recipe import DataRecipe, TrainingRecipe
from opsin.models.resolve import resolve
from opsin.training.optimizers import Muon, make_optimizers, orthogonal, rate_at


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
    decays = {
        p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    assert decays == {4: 0.1, 1: 0.0}


def test_muon_takes_the_convolutions_and_adamw_the_rest() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    (muon, whole), (rest, share) = make_optimizers(network, recipe(optimizer="muon"))
    shapes = [[tuple(p.shape) for g in o.param_groups for p in g["params"]] for o in (muon, rest)]
    assert shapes[0] == [(8, 3, 3, 3)]
    assert sorted(shapes[1]) == [(2,), (2, 8), (8,), (8,), (8,)]
    assert (whole, share) == (1.0, 0.2)


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    seed=st.integers(0, 99),
    products=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_singular_values_become_nearly_equal(
    rows: int, columns: int, seed: int, products: torch.dtype
) -> None:
    # With singular values of its own between 0.3 and 1: very small ones take more rounds.
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, columns, generator=generator))
    size = min(rows, columns)
    values = 0.3 + 0.7 * torch.rand(size, generator=generator)
    matrix = left[:, :size] @ torch.diag(values) @ right[:size]
    found = torch.linalg.svdvals(orthogonal(matrix, products))
    assert found.shape == (size,)
    assert bool(((found > 0.6) & (found < 1.3)).all())


@pytest.mark.parametrize("channels", [1, 4])
def test_a_filter_bank_is_scaled_and_turned_by_the_rate(channels: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 16, 3, bias=False)
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    optimizer = Muon(layer.parameters(), rate=0.1)
    layer(torch.randn(2, channels, 8, 8)).square().sum().backward()
    before = layer.weight.detach().clone()
    optimizer.step()
    scaled = before * math.sqrt(16) / before.norm()
    moved = layer.weight.detach() - scaled
    # As many directions as the matrix has, each moved by about the rate.
    usual = 0.1 * math.sqrt(min(16, 9 * channels))
    assert 0.6 * usual < float(moved.norm()) < 1.3 * usual
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
