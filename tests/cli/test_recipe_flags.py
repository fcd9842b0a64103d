"""A recipe file may be TOML or a run's own; what is given beside it wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opsin.cli.recipe_flags import merge_options, read_options
from opsin.core.errors import RecipeError
from opsin.core.recipe import CHANGEABLE, RESET_BY, DataRecipe, Recipe
from opsin.models.resolve import changed, resolve

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
    file = {"model": "mlp", "hidden": [9], "depth": 1, "epochs": 4, "sources": ["x"], "size": [8]}
    assert merge_options(file, {"hidden": [64, 32]}) == {
        "model": "mlp",
        "hidden": [64, 32],
        "epochs": 4,
        "size": [8],
    }
    # Another network does not take over sizes and rates that were meant for the first.
    assert merge_options(file, {"model": "cnn"}) == {"size": [8], "model": "cnn"}
    with pytest.raises(RecipeError, match="as many sizes"):
        resolve(DATA, hidden=(8, 8), depth=1)
    with pytest.raises(RecipeError, match="runs"):
        merge_options({"runs": "elsewhere"}, {})


# A choice of each row of `RESET_BY`, and a value of one option that belongs to it.
CHOICES: dict[str, tuple[Any, str, Any]] = {
    "augment": ("documents", "flip", True),
    "optimizer": ("adamw", "learning_rate", 0.07),
    "schedule": ("step", "patience", 3),
    "depth": (3, "hidden", (8, 9, 10)),
    "hidden": ((64, 32, 16), "depth", 3),
    "budget": ("10m", "epochs", 9),
}


def from_the_command_line(recipe: Recipe, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "recipe.json").write_text(recipe.model_dump_json(), encoding="utf-8")
    return merge_options(read_options(folder / "recipe.json"), given)


@pytest.mark.parametrize("choice", RESET_BY)
def test_another_choice_takes_along_what_belonged_to_the_older_one(
    tmp_path: Path, choice: str
) -> None:
    steps: dict[str, Any] = {"epochs": 7, "optimizer": "sgd", "learning_rate": 0.3, "patience": 2}
    recipe = resolve(DATA, model="cnn", hidden=(8, 16), augment="photos", zoom=0.4, **steps)
    new, name, value = CHOICES[choice]
    options = from_the_command_line(recipe, {choice: new}, tmp_path)
    assert options[choice] == new and options["model"] == "cnn"
    assert not set(RESET_BY[choice]) & set(options)
    assert set(from_the_command_line(recipe, {}, tmp_path)) - set(options) == set(RESET_BY[choice])
    assert from_the_command_line(recipe, {choice: new, name: value}, tmp_path)[name] == value
    if choice not in CHANGEABLE:  # nor of a training that goes on
        return
    fresh = resolve(DATA, model="cnn", **{choice: new}).training
    on = changed(recipe, **{choice: new}).training
    assert {each: getattr(on, each) for each in RESET_BY[choice]} == {
        each: getattr(fresh, each) for each in RESET_BY[choice]
    }
    assert getattr(changed(recipe, **{choice: new, name: value}).training, name) == value


def test_the_same_choice_again_changes_nothing(tmp_path: Path) -> None:
    recipe = resolve(
        DATA, model="cnn", augment="photos", zoom=0.4, optimizer="sgd", learning_rate=0.3
    )
    given = {"augment": "photos", "optimizer": "sgd", "schedule": recipe.training.schedule}
    options = from_the_command_line(recipe, given, tmp_path)
    assert options == from_the_command_line(recipe, {}, tmp_path)
    assert changed(recipe, **given) == recipe
