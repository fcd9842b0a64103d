"""What a form says becomes a command line that means just that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.classical.classical_recipe import PIXEL_MODELS, resolve_classical
from opsin.cli.recipe_flags import merge_options, read_options
from opsin.core.artifacts.records import Location
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.recipe import DataRecipe, ModelRecipe, TrainingRecipe
from opsin.models.resolve import resolve
from opsin.studio.jobs import training_form


def test_every_option_of_a_network_can_be_asked_for() -> None:
    shown = {field.name for fields in training_form.fields_for("auto").values() for field in fields}
    wanted = {*ModelRecipe.model_fields, *TrainingRecipe.model_fields} - {"name"}
    assert wanted <= shown | set(training_form.FRONT)
    assert all(
        field.help for fields in training_form.fields_for("cnn").values() for field in fields
    )


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_is_typed_stays_one_word_and_never_becomes_another_option(
    text: str, name: str
) -> None:
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
def test_a_run_that_is_cloned_is_trained_in_the_same_way(model: str, tmp_path: Path) -> None:
    recipe = recipe_of(model, seed=7)
    recorded = RecordedRecipe.model_validate(recipe)
    path = training_form.keep_recipe(tmp_path, recorded, {})
    options = merge_options(read_options(path), {})
    assert not {"sources", "labels", "test"} & set(options)
    model_name = options.pop("model")
    data = {name: options.pop(name) for name in list(options) if name in DataRecipe.model_fields}
    made = resolve_classical if model in PIXEL_MODELS else resolve
    again = made(DataRecipe.of("digits", **data), model=model_name, **options)
    assert again.model_dump(mode="json") | {"data": 0} == recipe | {"data": 0}
    # What the form shows of it is what it is.
    values = training_form.values_of(RecordedRecipe.model_validate(recipe))
    assert (values["model"], values["seed"]) == (model, "7")


def test_what_belonged_to_an_older_choice_goes_with_it(tmp_path: Path) -> None:
    recipe = RecordedRecipe.model_validate(recipe_of("cnn", epochs=4))

    def kept(**changed: str) -> dict[str, Any]:
        path = training_form.keep_recipe(tmp_path, recipe, changed)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    assert "flip" in kept()
    assert not {"augment", "flip", "shift", "erase"} & set(kept(augment="documents"))
    assert not {"learning_rate", "momentum"} & set(kept(optimizer="sgd"))
    assert not {"epochs", "hidden", "depth"} & set(kept(budget="10m"))
    # What was emptied is decided anew; what it goes with is still as the form shows it.
    assert "epochs" not in kept(epochs="")
    assert "optimizer" not in kept(optimizer="")
    assert {"momentum", "epochs"} <= set(kept(optimizer="", budget=""))
    assert set(kept(model="mlp")) <= set(DataRecipe.model_fields)


def test_a_runs_own_images_are_found_again() -> None:
    location = Location(sources=["/a/b", "digits"], test="/t", labels="/run/corrections.csv")
    words, labels = training_form.words_of_location(location)
    assert words == ["--test=/t", "--", "/a/b", "digits"]
    assert labels == Path("/run/corrections.csv")
