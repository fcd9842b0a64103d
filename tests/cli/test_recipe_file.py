"""A recipe file may be TOML or a run's own; what is given beside it wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from opsin.cli.recipe_file import merge_options, read_options
from opsin.core.errors import RecipeError
from opsin.core.recipe import DataRecipe
from opsin.models.resolve import resolve

DATA = DataRecipe.of("digits")


def test_a_recipe_file_may_be_toml_or_a_runs_own_json(tmp_path: Path) -> None:
    toml = tmp_path / "r.toml"
    toml.write_text('epochs = 4\n[model]\nname = "mlp"\n', encoding="utf-8")
    assert read_options(toml) == {"epochs": 4, "model": "mlp"}
    recipe = resolve(DATA, model="cnn", epochs=7, hidden=(8, 16))
    own = tmp_path / "recipe.json"
    own.write_text(recipe.model_dump_json(), encoding="utf-8")
    options = read_options(own)
    del options["sources"]
    names = DataRecipe.model_fields
    kept = {key: value for key, value in options.items() if key not in names}
    assert resolve(DATA, model=str(kept.pop("model")), mirrored=True, **kept) == recipe


@pytest.mark.parametrize("content", ["epochs = ", "[]", "\0"])
def test_a_damaged_recipe_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"recipe\.json"):
        read_options(file)
    with pytest.raises(RecipeError, match="missing"):
        read_options(tmp_path / "missing.toml")


def test_what_is_given_wins_over_the_file_and_contradictions_are_refused() -> None:
    file = {
        "model": "mlp",
        "hidden": [9],
        "depth": 1,
        "epochs": 4,
        "sources": ["x"],
        "size": [8, 8],
    }
    assert merge_options(file, {"hidden": [64, 32]}) == {
        "model": "mlp", "hidden": [64, 32], "epochs": 4, "size": [8, 8],
    }  # fmt: skip
    # Another network does not take over sizes and rates that were meant for the first.
    assert merge_options(file, {"model": "cnn"}) == {"size": [8, 8], "model": "cnn"}
    with pytest.raises(RecipeError, match="as many sizes"):
        resolve(DATA, hidden=(8, 8), depth=1)
    with pytest.raises(RecipeError, match="runs"):
        merge_options({"runs": "elsewhere"}, {})
