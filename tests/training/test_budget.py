"""A budget is filled, not passed, and what the user gave is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opsin.core.errors import RecipeError
from opsin.core.recipe import Recipe
from opsin.data.dataset import Dataset
from opsin.models.resolve import resolve
from opsin.training.budget import fit_budget, measure_epoch

CPU = torch.device("cpu")


def costing(seconds: float) -> Callable[[Recipe], float]:
    """A machine on which an epoch of filters 32,64,128 takes so long, and others as they should."""
    return lambda recipe: seconds * sum(units**2 for units in recipe.model.hidden) / 21_504


def asked(digits: Dataset, **given: Any) -> Recipe:
    """Return what is asked for: of a resnet with filters 32,64,128, unless its size is given."""
    size = {} if {"hidden", "depth"} & set(given) else {"hidden": (32, 64, 128)}
    return resolve(digits.recipe, **{"batch_size": 128, **size, **given})


def fitted(
    digits: Dataset, budget: float, cost: float, given: dict[str, Any] | None = None
) -> tuple[Recipe, str]:
    recipe = asked(digits, **(given or {}))
    names = tuple(given or ())
    measure = costing(cost)
    fit, reason, epoch = fit_budget(
        budget, recipe, digits, device=CPU, given=names, measure=measure
    )
    assert epoch == measure(fit)
    return fit, reason


@given(budget=st.floats(30, 1e5), cost=st.floats(0.01, 1e4))
def test_the_budget_is_filled_as_far_as_it_pays(
    digits: Dataset, budget: float, cost: float
) -> None:
    try:
        recipe, reason = fitted(digits, budget, cost)
    except RecipeError:
        assert costing(cost)(asked(digits, hidden=(8, 16, 32))) > 0.9 * budget
        return
    each, epochs = costing(cost)(recipe), recipe.training.epochs
    assert epochs * each <= 0.92 * budget
    # Less is left over than an epoch (and a moment for measuring), or so many are enough.
    assert (epochs + 1) * each >= 0.91 * budget or epochs * 13 >= 3_000
    assert reason.startswith(f"resnet {','.join(map(str, recipe.model.hidden))} · {epochs} epochs")


@pytest.mark.parametrize(
    ("budget", "hidden"),
    [
        (90_000, (64, 128, 256)),
        (50_000, (48, 96, 192)),
        (10_000, (32, 64, 128)),
        (3_300, (16, 32, 64)),
        (700, (8, 16, 32)),
        (20, (8, 16, 32)),
    ],
)
def test_the_largest_network_that_learns_enough_is_taken(
    digits: Dataset, budget: float, hidden: tuple[int, ...]
) -> None:
    recipe, _ = fitted(digits, budget, 200.0)
    assert recipe.model.hidden == hidden
    assert recipe.model.depth == 3


def test_a_size_that_was_given_is_kept(digits: Dataset) -> None:
    for size in ({"hidden": (32, 64)}, {"depth": 2}):
        recipe, _ = fitted(digits, 1_000, 21.0, size)
        assert recipe.model.hidden == asked(digits, **size).model.hidden
        assert recipe.training.epochs > 10


def test_epochs_that_were_given_are_kept(digits: Dataset) -> None:
    recipe, _ = fitted(digits, 1_000, 200.0, {"epochs": 7})
    assert (recipe.training.epochs, recipe.model.hidden) == (7, (16, 32, 64))
    with pytest.raises(RecipeError, match="or --epochs 73"):
        fitted(digits, 1_000, 200.0, {"epochs": 80})


@pytest.mark.parametrize("size", [{"hidden": (32, 64)}, {"depth": 2}])
def test_both_given_leave_nothing_to_fit(digits: Dataset, size: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="nothing to choose"):
        fitted(digits, 100, 1.0, {"epochs": 3, **size})


def test_too_short_a_budget_is_refused_with_the_one_that_would_do(digits: Dataset) -> None:
    with pytest.raises(RecipeError, match=r"5 s is too short: 1 epoch of .* 8,16,32 need"):
        fitted(digits, 5, 200.0)


def test_a_network_beyond_the_memory_is_not_taken(digits: Dataset) -> None:
    def measure(recipe: Recipe) -> float:
        if sum(recipe.model.hidden) > 224:
            raise RecipeError("There is no memory", "Buy some.")
        return 0.1

    recipe, _, _ = fit_budget(600, asked(digits), digits, device=CPU, measure=measure)
    assert recipe.model.hidden == (32, 64, 128)
    big = resolve(digits.recipe, hidden=(512, 512))
    with pytest.raises(RecipeError, match="Buy some"):
        fit_budget(600, big, digits, device=CPU, given=("hidden",), measure=measure)


@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_real_steps_are_measured_and_random_numbers_left_alone(digits: Dataset, model: str) -> None:
    recipe = resolve(digits.recipe, model=model, dropout=0.5)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    spent = measure_epoch(recipe, digits, CPU, seconds=0.02)
    assert torch.equal(torch.rand(3), expected)
    assert 1e-4 < spent < 600


def test_a_real_budget(digits: Dataset) -> None:
    recipe = resolve(digits.recipe, model="mlp")
    chosen, reason, _ = fit_budget(60, recipe, digits, device=CPU, given=("model",))
    assert chosen.model_copy(update={"hidden": ()}) != recipe
    assert chosen.training.epochs > 1
    assert reason.startswith("mlp ")


def test_a_part_smaller_than_a_batch_is_measured_too(digits: Dataset) -> None:
    recipe = resolve(digits.recipe, model="mlp", batch_size=60_000)
    assert measure_epoch(recipe, digits, CPU, seconds=0.01) > 0
