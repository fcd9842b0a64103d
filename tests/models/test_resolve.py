"""Defaults are resolved, and nonsense is refused with a line that helps."""

from hypothesis import given
from hypothesis import strategies as st

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
