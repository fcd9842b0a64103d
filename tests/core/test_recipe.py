"""Options of the data are checked by name."""

from typing import Any

import pytest
from pydantic import ValidationError

from opsin.classical.classical_recipe import TRAIN_OPTIONS
from opsin.core.arguments import FORMER_NAMES, checked
from opsin.core.errors import RecipeError
from opsin.core.recipe import RESET_BY, DataRecipe, Recipe, flat_options
from opsin.core.recipe_options import options_of
from opsin.models.resolve import resolve


@pytest.mark.parametrize("options", [{"val_fraction": 1.0}, {"size": (2, 2)}, {"colour": True}])
def test_impossible_data_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        DataRecipe.of("digits", **options)


@pytest.mark.parametrize(
    "changes", [{"epochs": -5}, {"epoch": 5}, {"learning_rate": float("nan")},
                {"optimizer": "sgdd"}],
)  # fmt: skip
def test_impossible_training_options_are_refused(changes: dict[str, Any]) -> None:
    recipe = resolve(DataRecipe.of("digits"))
    with pytest.raises(RecipeError, match=list(changes)[-1]):
        recipe.with_training(**changes)
    assert recipe.with_training(epochs=5).training.epochs == 5


VALUES = [
    ("size", (48, 64), "48x64"),
    ("classes", ("cat", "dog"), "cat,dog"),
    ("columns", {"path": "file", "label": "kind"}, "path=file,label=kind"),
    ("fold", "2/5", "2/5"),
]


@pytest.mark.parametrize(("name", "value", "text"), VALUES)
def test_a_value_and_its_text_stand_for_each_other(name: str, value: object, text: str) -> None:
    option = options_of(DataRecipe)[name]
    assert option.write(value) == text
    assert option.read(text) == value
    assert not option.fault(text)


@pytest.mark.parametrize(("name", "text"), [("size", "8x9x7"), ("size", "8x"), ("columns", "path"),
                                            ("hidden", "64,b"), ("hidden", "²")])  # fmt: skip
def test_another_form_is_refused_with_an_example(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"'{text}' is not .* such as "):
        TRAIN_OPTIONS[name].read(text)


def test_every_option_says_what_it_takes() -> None:
    for option in TRAIN_OPTIONS.values():
        assert option.help.endswith(".")
        assert option.group
        # Of these a text may be wrong as well.
        chosen = option.name in ("hidden", "size", "columns", "class_mix")
        free = option.kind is str and not option.choices and not option.field.examples
        assert bool(option.fault("?")) == (chosen or not free)


def test_options_that_belong_to_a_choice_exist() -> None:
    assert set(RESET_BY) - {"budget"} <= set(TRAIN_OPTIONS)
    assert {name for names in RESET_BY.values() for name in names} <= set(TRAIN_OPTIONS)


def test_former_names_of_options_are_read() -> None:
    recipe = resolve(DataRecipe.of("digits"))
    stored = recipe.model_dump(mode="json")
    for former, name in FORMER_NAMES.items():
        stored["training"][former] = stored["training"].pop(name)
    assert not set(FORMER_NAMES.values()) & stored["training"].keys()
    assert Recipe.model_validate(stored).training == recipe.training
    assert set(FORMER_NAMES.values()) <= flat_options(stored).keys()
    assert recipe.with_training(rate=0.25).training.learning_rate == 0.25
    with pytest.raises(RecipeError, match="no option rate"):
        recipe.with_training(rate=0.25, learning_rate=0.5)
    # What is read may be a stranger's: an error of reading, not of options.
    with pytest.raises(ValidationError):
        Recipe.model_validate(stored | {"training": {**stored["training"], "learning_rate": 1.0}})

    @checked
    def fit(*, learning_rate: float) -> float:
        return learning_rate

    assert fit(rate=0.5) == 0.5  # type: ignore[call-arg]
