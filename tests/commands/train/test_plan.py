"""A plan is what the training then does, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.commands.train.words import plan_in_words
from opsin.core.recipe import TrainingRecipe
from opsin.report.training_plan import Plan
from tests.backbones.small_networks import network
from tests.conftest import Cli, only_json


@pytest.mark.torch
def test_the_training_does_what_was_planned(
    digits: opsin.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    planned = opsin.plan(digits, model="mlp", epochs=2, hidden=(16,), quiet=True)
    assert not list(here.iterdir())
    run = opsin.train(digits, model="mlp", epochs=2, hidden=(16,), runs=tmp_path, quiet=True)
    assert planned.recipe == run.recipe
    assert list(planned.layers) == run.report.layers
    assert planned.parameters == run.report.training.parameters
    assert planned.multiply_adds == run.report.training.multiply_adds
    split = run.directory.load_arrays(run.directory.split)
    assert planned.images == {part: len(split[part]) for part in ("train", "val", "test")}
    assert planned.device == run.report.training.device
    assert planned.seconds and planned.memory
    assert 1e7 < planned.memory < 1e10


@pytest.mark.torch
def test_what_the_training_would_refuse_is_refused(digits: opsin.Dataset) -> None:
    with pytest.raises(opsin.RecipeError, match="learning_rate"):
        opsin.plan(digits, model="mlp", learning_rate=-1.0, quiet=True)
    with pytest.raises(opsin.RecipeError, match="loaded already"):
        opsin.plan(digits, model="mlp", size=16, quiet=True)


def test_a_model_without_layers_has_neither_layers_nor_rate(digits: opsin.Dataset) -> None:
    planned = opsin.plan(digits, model="forest", trees=7, images=1_000, quiet=True)
    found = json.loads(json.dumps(planned.model_dump(mode="json")))
    assert Plan.model_validate(found) == planned  # as the studio reads it
    assert found["recipe"]["model"]["trees"] == 7
    assert 1_000 <= found["images"]["train"] < 1_010  # each class at its share, rounded
    assert (found["layers"], found["rates"]) == ([], [])
    assert (found["parameters"], found["seconds"], found["memory"]) == (None, None, None)
    assert " of 1,457 training images" in dict(plan_in_words(planned))["Images"]


def test_what_cannot_be_read_is_counted(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(8):
            pixels = np.random.default_rng(number).integers(0, 256, (9, 9), np.uint8)
            Image.fromarray(pixels + (label == "b")).save(tmp_path / label / f"{number}.png")
    (tmp_path / "a" / "broken.png").write_bytes(b"no image")
    planned = opsin.plan(str(tmp_path), model="forest", quiet=True)
    (note,) = (note for note in planned.notes if "unreadable" in note)
    assert note.startswith("1 unreadable file left out, such as") and "broken.png" in note


def test_the_command_line_prints_one_object_and_makes_no_run(cli: Cli, tmp_path: Path) -> None:
    process = cli("train", "digits", "--model", "forest", "--trees", "5", "--plan", "--json")
    assert only_json(process)["recipe"]["model"]["trees"] == 5
    assert not list(tmp_path.iterdir())
    refused = cli("train", "digits", "--plan", "--repeats", "2", status=2)
    assert "--plan" in refused.stderr


@pytest.mark.torch
def test_fine_tuning_is_planned_as_it_is_trained(tmp_path: Path) -> None:
    backbone = tmp_path / "small.onnx"
    backbone.write_bytes(network())
    options: dict[str, Any] = {"backbone": backbone, "prepare": "-1..1", "head": "nearest-mean"}
    options |= {"fine_tune": True, "epochs": 1, "budget": "10m", "quiet": True}
    planned = opsin.plan("digits", **options)
    assert planned.seconds is not None and planned.seconds > 0
    run = opsin.train("digits", runs=tmp_path, **options)
    assert planned.recipe.training == run.recipe.training
    assert isinstance(planned.recipe.training, TrainingRecipe)
    assert planned.recipe.training.augment == "symbols"  # mirrored digits are no digits
    with pytest.raises(opsin.RecipeError, match="10 parsecs"):
        opsin.plan("digits", **{**options, "budget": "10 parsecs"})
