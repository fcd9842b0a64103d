"""Defaults are resolved, and nonsense is refused with a line that helps."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from opsin.core.errors import RecipeError
from opsin.core.recipe import DataRecipe
from opsin.models.resolve import resolve

DATA = DataRecipe.of("digits")


def test_written_characters_are_not_mirrored_unless_asked() -> None:
    assert resolve(DATA, model="cnn").training.flip
    assert not resolve(DATA, model="cnn", mirrored=False).training.flip
    assert resolve(DATA, model="cnn", mirrored=False, flip=True).training.flip


@given(model=st.sampled_from(["mlp", "cnn", "resnet"]), depth=st.integers(1, 8))
def test_depth_decides_the_number_of_layers(model: str, depth: int) -> None:
    recipe = resolve(DATA, model=model, depth=depth)
    assert len(recipe.model.hidden) == recipe.model.depth == depth
    assert all(size > 0 for size in recipe.model.hidden)


@pytest.mark.parametrize(
    ("option", "value"),
    [("epochs", 0), ("epoch", 3), ("learning_rate", float("nan")), ("optimizer", "lion"),
     ("batch_size", 1), ("dropout", 1.0)],
)  # fmt: skip
def test_nonsense_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=option):
        resolve(DATA, **{option: value})
    with pytest.raises(RecipeError, match="mlp, cnn, resnet"):
        resolve(DATA, model="vgg")
