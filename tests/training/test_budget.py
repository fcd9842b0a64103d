"""A budget is filled, not passed, and what the user gave is kept."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, strategies as st

from opsin.core.errors import RecipeError
from opsin.core.recipe import Recipe
from opsin.data.dataset import Dataset
from opsin.models.resolve import resolve
from opsin.training.budget import fit_budget, measure_epoch

CPU = torch.device("cpu")


@given(budget=st.floats(30, 1e5), cost=st.floats(0.01, 1e4))
def test_the_budget_is_filled_while_it_pays(digits: Dataset, budget: float, cost: float) -> None:
    recipe = resolve(digits.recipe, batch_size=128, hidden=(32, 64))
    try:
        with patch("opsin.training.budget.measure_epoch", return_value=cost):
            found, reason, epoch = fit_budget(budget, recipe, digits, device=CPU)
    except RecipeError as error:
        assert cost > 0.9 * budget and "is too short: 1 epoch of resnet 32,64 need" in str(error)
        return
    epochs = found.training.epochs
    assert (found.model, epoch) == (recipe.model, cost)
    assert epochs * cost <= 0.92 * budget
    # Less is left over than an epoch (and a moment for measuring), or so many are enough.
    assert (epochs + 1) * cost >= 0.91 * budget or epochs * 13 >= 3_000
    assert reason.startswith(f"resnet 32,64 · {epochs} epochs")


def test_epochs_that_were_given_are_kept(digits: Dataset) -> None:
    def fitted(epochs: int) -> Recipe:
        recipe = resolve(digits.recipe, epochs=epochs)
        with patch("opsin.training.budget.measure_epoch", return_value=12.5):
            return fit_budget(1_000, recipe, digits, device=CPU, fixed=True)[0]

    assert fitted(7).training.epochs == 7
    with pytest.raises(RecipeError, match="or --epochs 73"):
        fitted(80)


@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_real_steps_are_measured_and_random_numbers_left_alone(digits: Dataset, model: str) -> None:
    recipe = resolve(digits.recipe, model=model, dropout=0.5)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    spent = measure_epoch(recipe, digits, CPU, seconds=0.02)
    assert torch.equal(torch.rand(3), expected)
    assert 1e-4 < spent < 600
