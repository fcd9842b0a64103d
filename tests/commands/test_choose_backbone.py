"""Photographs get a pretrained network of the box, where no model is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.backbones.named_backbones import PackagedWeights
from opsin.commands.choose_backbone import leaves_open, network_for


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


def test_photographs_get_the_better_network_and_each_is_judged(
    photographs: Path, tmp_path: Path
) -> None:
    run = opsin.train(photographs, runs=tmp_path / "runs", quiet=True)
    facts = run.classifier().metadata.backbone
    assert facts is not None
    assert (facts.name, facts.licence) == ("efficientnet-lite2", "apache-2.0")
    assert (run.report.split, run.report.judged.images) == ("out_of_fold", 40)
    planned = opsin.plan(photographs, quiet=True)
    assert planned.recipe.model.name == "backbone"


@pytest.mark.torch
def test_without_the_packages_a_network_is_trained(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PackagedWeights, "find", lambda _: None)
    assert opsin.plan(photographs, size=32, quiet=True).recipe.model.name != "backbone"


@pytest.mark.torch
def test_a_budget_is_a_wish_for_a_training(photographs: Path) -> None:
    planned = opsin.plan(photographs, size=32, budget="20s", quiet=True)
    assert planned.recipe.model.name != "backbone"
    assert "Budget" in planned.recipe.reasons


def test_a_wish_is_kept(photographs: Path) -> None:
    planned = opsin.plan(photographs, model="forest", quiet=True)
    assert planned.recipe.model.name == "forest"
    assert leaves_open(None, {"size": 64, "epochs": None})
    assert not leaves_open(None, {"epochs": 3})


@pytest.mark.parametrize(
    ("shape", "few", "many"),
    [((32, 32, 3), 300, 301), ((28, 28, 1), 100, 101), ((90, 90, 1), 100, 101)],
)
def test_thumbnails_and_grey_images_get_one_while_they_are_few(
    shape: tuple[int, int, int], few: int, many: int
) -> None:
    labels = np.repeat([0, 1], many)
    images = np.random.default_rng(0).integers(0, 256, (2 * many, *shape), np.uint8)
    data = opsin.from_arrays(images, labels)
    for count, expected in ((few, True), (many, False)):
        rows = np.concatenate([np.arange(count), many + np.arange(count)])
        split = replace(data.split, train=rows)
        assert (network_for(replace(data, split=split)) is not None) is expected
