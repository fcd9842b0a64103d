"""Models get a name from where they lie, and what a run directory knows of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from opsin.core.errors import RecipeError
from opsin.data.dataset import Dataset
from opsin.runtime.classifier import Classifier
from opsin.server.models import named_models, training_shares
from tests.made_runs import answers_right, write_run


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("demo=runs/x", "demo"),
        ("runs/2026-11-21-demo", "2026-11-21-demo"),
        ("runs/2026-11-21-demo/", "2026-11-21-demo"),
        ("runs/demo/classifier.onnx", "demo"),
        ("runs/demo/classifier-int8.onnx", "demo-int8"),
        ("boots.onnx", "boots"),
        ("runs/my boots (new)", "my-boots-new"),
        ("runs/données", "donnees"),
        ("runs/靴", "model"),
        ("./a=b/c", "c"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert list(named_models([text])) == [name]


def test_a_directory_of_dots_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boots").mkdir()
    monkeypatch.chdir(tmp_path / "boots")
    assert named_models([".", "other=."]) == {"boots": Path(), "other": Path()}


@pytest.mark.parametrize(
    "texts",
    [[], ["=x"], ["a="], ["a b=x"], ["..=x"], ["ä=x"], ["runs/a", "more/a"], ["a=x", "a=y"]],
)
def test_names_that_cannot_be(texts: list[str]) -> None:
    with pytest.raises(RecipeError):
        named_models(texts)


@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=30))
def test_any_path_gets_a_tame_name(text: str) -> None:
    (name,) = named_models([f"./{text}"])
    assert name.strip(".")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_the_mix_is_of_training_images(tmp_path: Path, digits: Dataset, nearest_mean: Path) -> None:
    run = write_run(tmp_path, "digits", digits, answers_right(digits, 0.9), classifier=nearest_mean)
    metadata = Classifier(run).metadata
    mix = training_shares(run / "classifier.onnx", metadata)
    assert mix is not None
    train = digits.labels[digits.split.train]
    assert mix == tuple((train == k).sum() / len(train) for k in range(10))
    other = metadata.model_copy(update={"fingerprint": "of another data set"})
    assert training_shares(run / "classifier.onnx", other) is None
    whole = json.loads((run / "dataset.json").read_text(encoding="utf-8"))
    counts = {name: {"train": "many"} for name in metadata.classes}
    for damaged in ("{", json.dumps(whole | {"counts": counts})):
        (run / "dataset.json").write_text(damaged, encoding="utf-8")
        assert training_shares(run / "classifier.onnx", metadata) is None
