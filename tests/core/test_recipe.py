"""Options of the data are checked by name."""

from __future__ import annotations

from typing import Any

import pytest

from opsin.core.arguments import FORMER_NAMES, checked
from opsin.core.errors import RecipeError
from opsin.core.recipe import DataRecipe, Recipe, flat_options
from opsin.models.resolve import resolve


@pytest.mark.parametrize("options", [{"val_fraction": 1.0}, {"size": (2, 2)}, {"colour": True}])
def test_impossible_data_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        DataRecipe.of("digits", **options)


@pytest.mark.parametrize(
    "changes", [{"epochs": -5}, {"epoch": 5}, {"learning_rate": float("nan")},
                {"optimizer": "sgdd"}, {"shuffle_buffer": 100, "balance": "sampling"}],
)  # fmt: skip
def test_impossible_training_options_are_refused(changes: dict[str, Any]) -> None:
    recipe = resolve(DataRecipe.of("digits"))
    with pytest.raises(RecipeError, match=list(changes)[-1]):
        recipe.with_training(**changes)
    assert recipe.with_training(epochs=5).training.epochs == 5


def test_former_names_of_options_are_read() -> None:
    recipe = resolve(DataRecipe.of("digits"))
    stored = recipe.model_dump(mode="json")
    for former, name in FORMER_NAMES.items():
        stored["training"][former] = stored["training"].pop(name)
    assert not set(FORMER_NAMES.values()) & stored["training"].keys()
    assert Recipe.model_validate(stored).training == recipe.training
    assert set(FORMER_NAMES.values()) <= flat_options(stored).keys()
    assert recipe.with_training(rate=0.25).training.learning_rate == 0.25

    @checked
    def fit(*, learning_rate: float) -> float:
        return learning_rate

    assert fit(rate=0.5) == 0.5  # type: ignore[call-arg]
