"""Steps are orthogonal, filter banks keep their norm, and networks learn by them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from opsin.training.optimizers import Muon, orthogonal


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
