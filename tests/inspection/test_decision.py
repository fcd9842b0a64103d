"""All methods side by side, each with its checks; and what is said where some cannot be made."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import opsin
from opsin.commands.inspect_model import gradient_maps
from opsin.data.dataset import Dataset
from opsin.inspection.decision import NO_MAPS, NO_WEIGHTS, explain
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.report.inside.decision_sections import decision_sections
from opsin.runtime.classifier import Classifier
from tests.classical.test_fitted_file import content_of, fitted

#: As `Inspection.explain` asks.
explain_fully = functools.partial(explain, gradient_maps=gradient_maps)


def opened(path: Path) -> tuple[Classifier, OnnxGraph]:
    file = Classifier(path, threads=1)
    return file, OnnxGraph(path.read_bytes(), file.metadata.layers)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    torch = pytest.importorskip("torch")
    from opsin.core.metadata import Metadata, Preparation
    from opsin.core.recipe import DataRecipe
    from opsin.models import build_network
    from opsin.models.build_network import Statistics, summarise
    from opsin.models.resolve import resolve
    from opsin.training.torch_to_onnx import to_onnx

    recipe = resolve(DataRecipe.of("x"), model="resnet", hidden=(6, 8)).model
    # Weights by chance may leave Grad-CAM nothing that speaks for a class; with these it has some.
    torch.manual_seed(1)
    network = build_network.build(
        recipe, (12, 16, 3), 3, statistics=Statistics([100.0, 90, 80], [60.0] * 3)
    )
    metadata = Metadata(
        opsin=opsin.__version__, model="resnet", classes=("a", "b", "c"),
        preparation=Preparation(height=12, width=16, channels=3, resize="fit"),
        layers=tuple(summarise(network, (12, 16, 3))), source="x", fingerprint="x",
    )  # fmt: skip
    path = tmp_path / "classifier.onnx"
    path.write_bytes(to_onnx(network, metadata))
    return path


@pytest.mark.torch
@pytest.mark.parametrize("target", [None, 0, 2])
def test_a_network_with_maps_gets_four_maps_for_any_class(resnet: Path, target: int | None) -> None:
    file, network = opened(resnet)
    pixels = noise(12, 16, 3)
    decision = explain_fully(file, network, pixels, target=target)
    methods = [each.method for each in decision.maps]
    assert methods == ["saliency", "grad-cam", "integrated-gradients", "occlusion"]
    assert decision.answer == int(decision.probabilities.argmax())
    assert decision.target == (decision.answer if target is None else target)
    assert decision.fill.tolist() == [100, 90, 80] and decision.notes == ()
    for each in decision.maps:
        assert each.heat.shape == (12, 16) and each.heat.dtype == np.float32
        assert each.random_heat is not None and each.random_heat.shape == (12, 16)
        assert not np.array_equal(each.heat, each.random_heat)
        assert each.verdict.trusted == (not each.verdict.reasons)
    assert "Adds up" in decision.maps[2].notes[0]
    if decision.counterfactual is not None:
        assert decision.counterfactual.before == decision.answer
    again = explain_fully(file, network, pixels, target=target)
    assert again.to_json() == decision.to_json()
    plain = json.loads(json.dumps(decision.to_json()))
    assert plain["class"] == "abc"[decision.target]
    assert np.shape(plain["maps"][0]["heat"]) == (12, 16)


@pytest.mark.parametrize("name", ["forest", "knn"])
def test_a_model_without_gradients_has_its_occlusion(name: str, tmp_path: Path) -> None:
    path = tmp_path / "classifier.onnx"
    path.write_bytes(content_of(fitted(name, 3)))
    file, network = opened(path)
    decision = explain_fully(file, network, noise(9, 7, 3))
    assert [each.method for each in decision.maps] == ["occlusion"]
    assert "Saliency, Grad-CAM and Integrated Gradients need" in decision.notes[0]
    told = "need gradients" in decision.notes[0]
    assert told != ("opsin[train]" in decision.notes[0])
    # The stored images of neighbours can be drawn anew, the steps of trees cannot.
    assert (decision.maps[0].random_heat is None) == (name == "forest")
    assert (NO_WEIGHTS in decision.notes) == (name == "forest")


def test_where_the_training_half_is_missing_it_is_said(
    nearest_mean: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "captum.attr", None)
    decision = explain_fully(*opened(nearest_mean), np.array(digits.images[0]))
    assert [each.method for each in decision.maps] == ["occlusion"]
    assert "pip install 'opsin[train]'" in decision.notes[0]


def test_of_an_image_without_contrast_no_maps_are_drawn(nearest_mean: Path) -> None:
    decision = explain_fully(*opened(nearest_mean), np.full((8, 8, 1), 99, np.uint8))
    assert decision.maps == ()
    assert decision.counterfactual is None
    assert decision.notes == (NO_MAPS,)
    (shown,) = decision_sections(decision)
    assert "No heat maps were drawn" in shown.title
    assert NO_MAPS in shown.html
    assert "Bright" not in shown.html
