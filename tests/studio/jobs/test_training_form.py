"""What a form says becomes a command line that means just that."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from opsin.classical.classical_recipe import PIXEL_MODELS, TRAIN_OPTIONS, resolve_classical
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.recipe import DataRecipe, ModelRecipe, TrainingRecipe
from opsin.models.resolve import resolve
from opsin.studio.jobs import training_form


def test_every_option_of_a_network_can_be_asked_for() -> None:
    groups = training_form.fields_for("cnn")
    assert list(groups) == ["What it learns from", "The network", "How it trains"]
    shown = {field.name: field.help for fields in groups.values() for field in fields}
    assert {*ModelRecipe.model_fields, *TrainingRecipe.model_fields} - {"name"} <= shown.keys()
    assert [name for name, text in shown.items() if not text] == ["model"]
    # A head has no epochs, unless the network itself is trained.
    of_head = training_form.fields_for("backbone", "no")
    assert {field.name for field in of_head["How it trains"]} == {"seed", "class_mix", "device"}


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_typed_stays_one_word_and_becomes_no_option(text: str, name: str) -> None:
    words = training_form.argv(
        ["--", "-source"], {"group_by": text, "learning_rate": "0.1"}, runs=Path("/runs"), name=name
    )
    typed = [word for word in words if word.startswith("--group-by")]
    assert typed == ([f"--group-by={text.strip()}"] if text.strip() else [])
    assert words[words.index("--") :] == ["--", "-source"]
    assert all(word.startswith("--") for word in words[4 : words.index("--")])


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("budget", ["10m", "1h30m", "600", " 90s "], ["abc", "0", "-5m", "10 parsecs"]),
        ("epochs", ["1", " 30 "], ["abc", "0", "-4", "1.5", "1e9", "nan"]),
        ("learning_rate", ["0.1", "1e-3"], ["fast", "0", "inf", "nan", "-1"]),
        ("hidden", ["64", "64,32", "64, 32"], ["64;32", "a,b", "0"]),
        ("size", ["28", "28x32", "28,32", "28X32"], ["2", "1x2x3", "large", "28x"]),
        ("fold", ["2/5"], ["2", "two of five"]),
        ("flip", ["yes", "no"], ["perhaps"]),
        ("channels", ["1", "3"], ["2"]),
        ("val_fraction", ["0.2"], ["0", "1", "half"]),
    ],
)
def test_a_field_says_what_it_takes(name: str, good: list[str], bad: list[str]) -> None:
    assert {training_form.fault(name, text, "cnn") for text in ["", "  ", *good]} == {""}
    for text in bad:
        assert ": " in training_form.fault(name, text, "cnn")


def recipe_of(model: str, **options: Any) -> dict[str, Any]:
    data = DataRecipe.of("digits", size=(8, 8), labels="old.csv")
    made = resolve_classical if model in PIXEL_MODELS else resolve
    return made(data, model=model, **options).model_dump(mode="json")


@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet", *PIXEL_MODELS])
def test_a_run_that_is_cloned_is_trained_in_the_same_way(model: str) -> None:
    recipe = recipe_of(model, seed=7)
    values = training_form.values_of(RecordedRecipe.model_validate(recipe))
    assert (values["model"], values["seed"]) == (model, "7")
    assert not {"sources", "labels", "test"} & set(values)
    assert not any(training_form.fault(name, text, model) for name, text in values.items())
    # The command line reads the texts as the form's options do.
    texts = {name: text for name, text in values.items() if name != "model"}
    options = {name: TRAIN_OPTIONS[name].read(text) for name, text in texts.items()}
    data = {name: options.pop(name) for name in list(options) if name in DataRecipe.model_fields}
    made = resolve_classical if model in PIXEL_MODELS else resolve
    again = made(DataRecipe.of("digits", **data), model=model, **options)
    assert again.model_dump(mode="json") | {"data": 0} == recipe | {"data": 0}
