"""Norms are recorded while a network trains, and are those of its weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import opsin
from opsin.commands.inside.weights import norm_history, weight_figures, weight_views
from opsin.core.recipe import DataRecipe, resolve
from opsin.inspection.network import Network


@pytest.mark.torch
def test_the_norms_told_are_those_of_the_weights(run: opsin.Run) -> None:
    file = run.classifier()
    history = norm_history(file)
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    best = max((epoch for epoch in history if epoch["best"]), key=lambda epoch: epoch["epoch"])
    network = Network(file.path.read_bytes(), file.metadata.layers)
    norms = {view.name: view.values[0].norm for view in weight_views(network)}
    assert best["norms"] == {name: pytest.approx(norm, rel=1e-5) for name, norm in norms.items()}
    assert history[0]["norms"] != history[1]["norms"]
    assert list(weight_figures(history)) == ["norms"]
    assert weight_figures(history[:1]) == {}  # one epoch is no history


@pytest.mark.torch
def test_weights_that_are_fixed_have_no_norm_to_tell() -> None:
    import torch

    from opsin.models import registry
    from opsin.models.statistics import Statistics
    from opsin.training.step import TrainStep

    recipe = resolve(DataRecipe.of("x"), model="resnet", hidden=(4,))
    network = registry.build(recipe.model, (8, 8, 1), 3, statistics=Statistics([100.0], [60.0]))
    norms = TrainStep(network, recipe.training, device=torch.device("cpu")).norms()
    assert list(norms) == [
        "stage1.conv", "stage1.norm", "residual1.conv", "residual1.norm", "head",
    ]  # fmt: skip
    assert norms["stage1.norm"] == 2.0  # four scales of 1


def test_older_runs_and_files_alone_have_no_history(nearest_mean: Path, tmp_path: Path) -> None:
    file = opsin.Classifier(nearest_mean)
    assert norm_history(file) == [] and weight_figures([]) == {}
    (tmp_path / "classifier.onnx").write_bytes(nearest_mean.read_bytes())
    lines = [{"epoch": 1, "best": True}, {"epoch": 2, "best": True, "norms": {}}]
    (tmp_path / "history.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert norm_history(opsin.Classifier(tmp_path / "classifier.onnx")) == []


def test_a_file_without_layers_of_weights_has_none(nearest_mean: Path) -> None:
    file = opsin.Classifier(nearest_mean)
    network = Network(file.path.read_bytes(), file.metadata.layers)
    assert weight_views(network) == []
