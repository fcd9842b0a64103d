"""Few photographs get a pretrained network that is on this machine, where no model is named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.commands.choose_backbone import are_few, leaves_open
from opsin.hub.hub_cache import snapshot_of
from opsin.hub.hub_name import NAMED
from tests.backbones.small_networks import network


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two kinds of image, each with noise of its own colour, 80 pixels high."""
    random = np.random.default_rng(5)
    for label, colour in (("bees", (200, 160, 40)), ("ants", (90, 40, 30))):
        folder = tmp_path / "insects" / label
        folder.mkdir(parents=True)
        for place in range(20):
            noise = random.normal(colour, 40, (80, 90, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / f"{place}.png")
    return tmp_path / "insects"


@pytest.fixture
def on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's cache holds what the short name stands for."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = snapshot_of(NAMED["small"].where)
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(network())
    pixels = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))


@pytest.mark.usefixtures("on_this_machine")
def test_a_network_that_is_here_is_built_on(photographs: Path, tmp_path: Path) -> None:
    run = opsin.train(photographs, runs=tmp_path / "runs", quiet=True)
    facts = run.classifier().metadata.backbone
    assert facts is not None
    assert NAMED["small"].where.repository in run.report.reasons["Backbone"]
    planned = opsin.plan(photographs, quiet=True)
    assert planned.recipe.model.name == "backbone"


@pytest.mark.usefixtures("on_this_machine")
def test_a_folder_of_the_same_name_is_no_network(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert opsin.plan(photographs, quiet=True).recipe.model.name == "backbone"


@pytest.mark.torch
@pytest.mark.usefixtures("on_this_machine")
def test_a_network_without_its_preparation_is_not_taken(photographs: Path) -> None:
    (snapshot_of(NAMED["small"].where) / "preprocessor_config.json").unlink()
    assert opsin.plan(photographs, size=32, quiet=True).recipe.model.name != "backbone"


@pytest.mark.torch
@pytest.mark.usefixtures("on_this_machine")
def test_a_budget_is_a_wish_for_a_training(photographs: Path) -> None:
    planned = opsin.plan(photographs, size=32, budget="20s", quiet=True)
    assert planned.recipe.model.name != "backbone"
    assert "Budget" in planned.recipe.reasons


@pytest.mark.usefixtures("on_this_machine")
def test_a_wish_is_kept(photographs: Path) -> None:
    planned = opsin.plan(photographs, model="forest", quiet=True)
    assert planned.recipe.model.name == "forest"
    assert leaves_open(None, {"size": 64, "epochs": None})
    assert not leaves_open(None, {"epochs": 3})


@pytest.mark.parametrize(
    ("shape", "few", "many"),
    [
        ((64, 80, 3), 300, 301),
        ((32, 32, 3), 300, 301),
        ((28, 28, 1), 100, 101),
        ((90, 90, 1), 100, 101),
    ],
)
def test_how_few_are_few_depends_on_size_and_colour(
    shape: tuple[int, int, int], few: int, many: int
) -> None:
    labels = np.repeat([0, 1], many)
    images = np.random.default_rng(0).integers(0, 256, (2 * many, *shape), np.uint8)
    data = opsin.from_arrays(images, labels)
    for count, expected in ((few, True), (many, False)):
        rows = np.concatenate([np.arange(count), many + np.arange(count)])
        split = replace(data.split, train=rows)
        assert are_few(replace(data, split=split)) is expected


@pytest.mark.torch
def test_where_none_is_here_the_plan_says_how_to_get_one_and_promises_no_figure(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    reason = opsin.plan(photographs, size=64, quiet=True).recipe.reasons["Backbone"]
    assert "--from small fetches one (15.1 MB, apache-2.0)" in reason
    # Of that network nothing was measured: no accuracy stands beside its name.
    assert not re.search(r"\d", reason.replace("15.1 MB", "").replace("apache-2.0", ""))
