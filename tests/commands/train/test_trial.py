"""Photographs get a pretrained network of the box, where no model is named."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.backbones.backbone import open_backbone
from opsin.backbones.named_backbones import PackagedWeights
from opsin.commands.backbones import MeasuredBackbone, measured_backbone
from opsin.commands.train import load
from opsin.core.events import SILENT
from tests.conftest import Notes, Train


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
    photographs: Path, train: Train
) -> None:
    run = train(photographs)
    facts = run.classifier().metadata.backbone
    assert facts is not None
    assert (facts.name, facts.licence) == ("efficientnet-lite2", "apache-2.0")
    assert (run.report.split, run.report.judged.images) == ("out_of_fold", 40)
    log = (run.path / "log.txt").read_text(encoding="utf-8")
    assert "fine-tuning would take about" in log
    planned = opsin.plan(photographs, quiet=True)
    assert planned.recipe.model.name == "backbone"
    assert planned.seconds is not None and planned.seconds < 10  # all features are known


@pytest.mark.torch
def test_without_the_packages_a_network_is_trained(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PackagedWeights, "find", lambda _: None)
    assert opsin.plan(photographs, size=32, quiet=True).recipe.model.name != "backbone"


def test_a_wish_is_kept(photographs: Path) -> None:
    planned = opsin.plan(photographs, model="forest", quiet=True)
    assert planned.recipe.model.name == "forest"
    assert load.leaves_open(None, {"size": 64, "epochs": None})
    assert not load.leaves_open(None, {"epochs": 3})


def test_what_takes_too_long_takes_the_quicker_network_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (80, 28, 28, 1), np.uint8)
    data = opsin.from_arrays(images, np.repeat([0, 1], 40))

    def network(
        milliseconds: dict[str, float], budget: float | None = None, slowed: float = 1.0
    ) -> str | None:
        def measured(name: str, anew: bool = False) -> MeasuredBackbone:
            needed = milliseconds[name[-5:]] / (slowed if anew else 1)
            return MeasuredBackbone(side=(8, 8), multiply_adds=1, milliseconds=needed)

        monkeypatch.setattr(load, "measured_backbone", measured)
        return load.network_in_time(data, budget)

    usual = {"lite0": 300.0, "lite2": 600.0}
    assert network(usual) == "efficientnet-lite2"
    assert network({"lite0": 800.0, "lite2": 1600.0}) == "efficientnet-lite0"
    assert network({"lite0": 8000.0, "lite2": 9000.0}) is None
    assert network(usual, budget=100.0) == "efficientnet-lite0"
    assert network(usual, budget=1.0) == "efficientnet-lite0"
    # The machine was busy at the first measurement.
    assert network({"lite0": 800.0, "lite2": 1600.0}, slowed=4.0) == "efficientnet-lite2"
    monkeypatch.setattr(load, "_SECONDS", {"mobilenetv4-small": 9e9, "efficientnet-lite0": 9e9})
    assert network(usual) == "efficientnet-lite0"
    assert load._networks_are_here()


def test_an_old_cost_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path))
    busy = measured_backbone("efficientnet-lite0").model_copy(update={"milliseconds": 1e9})
    (file,) = (tmp_path / "backbones").iterdir()
    for day in (-86_400, 86_400):  # the clock was wrong, too
        file.write_text(busy.model_dump_json())
        os.utime(file, (time.time() + day,) * 2)
        assert measured_backbone("efficientnet-lite0", anew=True).milliseconds < 1e9


@pytest.mark.torch
def test_small_images_that_gradients_tell_apart_need_no_backbone(digits: opsin.Dataset) -> None:
    assert "right on 9" in (load.solved_by_gradients(digits, seed=0) or "")
    planned = opsin.plan("digits", quiet=True)
    assert planned.recipe.model.name == "resnet"
    assert "Trial" in planned.recipe.reasons
    random = np.random.default_rng(0)
    noise = opsin.from_arrays(random.integers(0, 256, digits.images.shape, np.uint8), digits.labels)
    assert load.solved_by_gradients(noise, seed=0) is None


@pytest.fixture(scope="module")
def marks() -> opsin.Dataset:
    """Noise with labels, which features tell apart no better than gradients."""
    images = np.random.default_rng(5).integers(0, 256, (220, 12, 12, 1), np.uint8)
    return opsin.from_arrays(images, np.repeat([0, 1], 110))


@pytest.mark.torch
def test_a_plan_times_what_a_trial_may_lead_to(marks: opsin.Dataset, tmp_path: Path) -> None:
    for row, label in enumerate(marks.labels):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(marks.images[row, ..., 0]).save(tmp_path / str(label) / f"{row}.png")
    assert "trained in full (" in opsin.plan(tmp_path, quiet=True).reasons["Trial"]


@pytest.mark.torch
@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_what_a_short_training_reaches_decides_once(
    marks: opsin.Dataset, monkeypatch: pytest.MonkeyPatch, accuracy: float
) -> None:
    backbone = open_backbone("efficientnet-lite0", offline=True)
    photographs = opsin.from_arrays(np.asarray(marks.images), marks.labels, size=32, channels=3)
    asked = []

    def trained(tried: opsin.Dataset, *_: object) -> float:
        asked.append(len(tried.split.train))
        assert set(tried.split.train).isdisjoint(tried.split.val)
        return accuracy

    monkeypatch.setattr(load, "_accuracy_from_scratch", trained)
    seed = round(10 * accuracy)  # what was found is kept
    found = [load.try_backbone(marks, lambda: photographs, backbone, seed=seed) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].scratch is (accuracy == 1.0)
    assert len(asked) == 1
    assert "trained from scratch" in found[0].words


@pytest.mark.torch
def test_a_budget_is_for_fine_tuning(photographs: Path) -> None:
    loaded = load.load_for(photographs, None, {}, budget="90s", offline=True, watcher=SILENT)
    assert (loaded.model, loaded.budget) == ("backbone", 90.0)
    assert len(loaded.dataset.split.val) > 0  # which decides whether it is delivered


def test_no_budget_without_pytorch(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "can_train_networks", lambda: False)
    seen = Notes()
    options: dict[str, object] = {}
    loaded = load.load_for(photographs, None, options, budget="90s", offline=True, watcher=seen)
    assert (loaded.model, loaded.budget) == ("backbone", None)
    assert "fine_tune" not in options
    assert "PyTorch" in seen.notes[0]
