"""Few options, each documented, and none that does nothing."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from opsin.classical.classical_recipe import (
    FITTED,
    PIXEL_MODELS,
    ClassicalRecipe,
    resolve_classical,
)
from opsin.cli.recipe_flags import merge_options
from opsin.core.errors import RecipeError
from opsin.core.recipe import ClassicalName, DataRecipe
from opsin.models.resolve import resolve

DATA = DataRecipe.of("digits")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "classical.md"


@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_a_recipe_survives_its_file(name: str) -> None:
    recipe = resolve_classical(DATA, model=name, seed=3)
    again = ClassicalRecipe.model_validate_json(recipe.model_dump_json())
    assert again == recipe
    assert (again.model.name, again.training.seed) == (name, 3)


def test_names_and_options_of_others_are_refused() -> None:
    assert tuple(FITTED) == get_args(ClassicalName)
    with pytest.raises(RecipeError, match="svm"):
        resolve(DATA, model="vgg")
    kept = resolve_classical(DATA, model="knn").model_dump(mode="json")
    kept["model"]["trees"] = 10
    with pytest.raises(ValidationError):
        ClassicalRecipe.model_validate(kept)


@pytest.mark.parametrize(
    ("model", "option", "value", "words"),
    [("forest", "epochs", 3, "--model forest has no option epochs"),
     ("svm", "augment", "photos", "--model svm has no option augment"),
     ("knn", "trees", 10, "has no option trees"), ("logistic", "budget", "10m", "has no option"),
     ("forest", "trees", 0, "trees"), ("svm", "c", 0.0, "c cannot"),
     ("knn", "neighbours", 0, "neighbours"),
     ("logistic", "seed", -1, "seed"), ("logistic", "side", 2, "side"),
     ("forest", "images", 1, "images")],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(model: str, option: str, value: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        resolve_classical(DATA, model=model, **{option: value})


def test_a_recipe_file_may_hold_these_options() -> None:
    file = {"model": "forest", "trees": 20, "seed": 1}
    assert merge_options(file, {"trees": 30}) == {"model": "forest", "trees": 30, "seed": 1}
    assert merge_options(file, {"model": "knn"}) == {"model": "knn"}


def test_every_option_and_its_default_is_documented() -> None:
    page = PAGE.read_text(encoding="utf-8")
    heading = next(line for line in page.splitlines() if line.startswith("| field |"))
    assert re.findall(r"[a-z-]+", heading)[1:-1] == list(PIXEL_MODELS)
    options = {name for model in PIXEL_MODELS.values() for name in model.model_fields} - {"name"}
    for option in options:
        values = []
        for model in PIXEL_MODELS.values():
            field = model.model_fields.get(option)
            values.append("–" if field is None else f"{field.default:,}".removesuffix(".0"))
        assert f"| `{option}` | {' | '.join(values)} |" in page, option
    for model in PIXEL_MODELS.values():
        assert all(
            field.description for name, field in model.model_fields.items() if name != "name"
        )
