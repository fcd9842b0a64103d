"""Options of the data are checked by name."""

from __future__ import annotations

from typing import Any

import pytest

from opsin.core.errors import RecipeError
from opsin.core.recipe import DataRecipe
from opsin.models.resolve import resolve


@pytest.mark.parametrize("options", [{"val_fraction": 1.0}, {"size": (2, 2)}, {"colour": True}])
def test_impossible_data_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        DataRecipe.of("digits", **options)


@pytest.mark.parametrize(
    "changes", [{"epochs": -5}, {"epoch": 5}, {"rate": float("nan")}, {"optimizer": "sgdd"},
                {"shuffle_buffer": 100, "balance": "sampling"}],
)  # fmt: skip
def test_impossible_training_options_are_refused(changes: dict[str, Any]) -> None:
    recipe = resolve(DataRecipe.of("digits"))
    with pytest.raises(RecipeError, match=list(changes)[-1]):
        recipe.with_training(**changes)
    assert recipe.with_training(epochs=5).training.epochs == 5
