"""All methods side by side, each with its checks, which good maps pass and others do not."""

import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from opsin.commands.inspect_model import gradient_maps
from opsin.core.stored_json import plain_data
from opsin.inspection.decision import (
    NO_MAPS,
    NO_WEIGHTS,
    FaithfulnessVerdict,
    assess_faithfulness,
    chance,
    curves_of,
    explain,
    random_weights,
)
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.report.inside.decision_sections import decision_sections
from opsin.runtime.classifier import Classifier
from tests.classical.test_fitted_file import content_of, fitted
from tests.conftest import a_few
from tests.made_classifier import made_layer
from tests.onnx_files.made_files import SHAPE, made

#: As `Inspection.explain` asks.
explain_fully = functools.partial(explain, gradient_maps=gradient_maps, seconds=math.inf)


def opened(path: Path) -> tuple[Classifier, OnnxGraph]:
    file = Classifier(path, threads=1)
    return file, OnnxGraph(path.read_bytes(), file.metadata.layers)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    path = tmp_path / "classifier.onnx"
    path.write_bytes(made("resnet", hidden=(6, 8)))
    return path


@pytest.mark.torch
@pytest.mark.parametrize("target", a_few([None, 0, 2], 2))
def test_a_network_with_maps_gets_four_maps_for_any_class(resnet: Path, target: int | None) -> None:
    file, network = opened(resnet)
    pixels = noise(*SHAPE)
    decision = explain_fully(file, network, pixels, target=target)
    methods = [each.method for each in decision.maps]
    assert methods == ["saliency", "grad-cam", "integrated-gradients", "occlusion"]
    assert decision.answer == file.predict(pixels).label
    assert decision.label == (decision.answer if target is None else file.classes[target])
    assert decision.fill.tolist() == [100, 100, 100] and decision.notes == ()
    for each in decision.maps:
        assert each.heat.shape == SHAPE[:2] and each.heat.dtype == np.float32
        assert each.random_heat is not None and each.random_heat.shape == SHAPE[:2]
        assert not np.array_equal(each.heat, each.random_heat)
        assert each.verdict.trusted == (not each.verdict.reasons)
    assert "Adds up" in decision.maps[2].notes[0]
    if decision.counterfactual is not None:
        assert decision.counterfactual.before == decision.answer
    again = explain_fully(file, network, pixels, target=target)
    assert plain_data(again) == plain_data(decision)
    plain = json.loads(json.dumps(plain_data(decision)))
    assert plain["class"] == decision.label
    assert np.shape(plain["maps"][0]["heat"]) == SHAPE[:2]


@pytest.mark.torch
def test_what_takes_too_long_is_left_out_and_what_is_shown_is_checked(resnet: Path) -> None:
    decision = explain_fully(*opened(resnet), noise(*SHAPE), seconds=0)
    (only,) = decision.maps
    assert only.method == "occlusion" and only.random_heat is not None
    assert len(only.by_chance.deletion) >= 5 and only.verdict.sanity is not None
    (note,) = decision.notes
    assert "Left out" in note and note.endswith("Grad-CAM, Saliency, Integrated Gradients.")


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


def test_of_an_image_without_contrast_no_maps_are_drawn(nearest_mean: Path) -> None:
    decision = explain_fully(*opened(nearest_mean), np.full((8, 8, 1), 99, np.uint8))
    assert decision.maps == ()
    assert decision.counterfactual is None
    assert decision.notes == (NO_MAPS,)
    (shown,) = decision_sections(decision)
    assert "No heat maps were drawn" in shown.title
    assert NO_MAPS in shown.html
    assert "Bright" not in shown.html


BLACK = np.zeros(1, np.uint8)
WHITE = np.full((28, 28, 1), 255, np.uint8)


def box(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    light = images[:, 6:16, 8:18].mean(axis=(1, 2, 3)) / 255
    return np.stack([light, 1 - light], axis=1).astype(np.float32)


def box_map() -> NDArray[np.float32]:
    heat = np.zeros((28, 28), np.float32)
    heat[6:16, 8:18] = 1
    return heat


def random_map(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((28, 28), np.float32)


def verdict_on(
    heat: NDArray[np.float32], random_heat: NDArray[np.float32] | None
) -> FaithfulnessVerdict:
    curves = curves_of(box, WHITE, heat, 0, BLACK)
    return assess_faithfulness(heat, curves, chance(box, WHITE, heat, 0, BLACK), random_heat)


def test_a_map_of_what_decides_passes_and_others_do_not() -> None:
    curves = curves_of(box, WHITE, box_map(), 0, BLACK)
    assert curves.deletion_area < 0.1 and curves.insertion_area > 0.9
    verdict = verdict_on(box_map(), random_map(1))
    assert verdict.trusted and verdict.words == "passes both checks"
    assert verdict.reasons == ()
    verdict = verdict_on(box_map(), 3 * box_map())
    assert verdict.likeness == pytest.approx(1.0) and verdict.sanity is False
    assert verdict.words == (
        "not to be trusted: a network with random weights gives much the same map"
    )
    flat = np.zeros((28, 28), np.float32)
    assert verdict_on(flat, random_map(0)).reasons == ("it is the same everywhere",)


@pytest.mark.parametrize("smooth", [False, True])
def test_maps_that_know_nothing_of_the_image_pass_seldom(smooth: bool) -> None:
    random = np.random.default_rng(0)
    passed = 0
    for seed in range(40):
        heat = random_map(seed)
        if smooth:
            heat = np.roll(box_map(), random.integers(28, size=2), (0, 1))
        passed += verdict_on(heat, random_map(seed + 99)).trusted
    assert passed <= 10


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (1, 1), (3, 50), (224, 224)])
def test_curves_run_from_nothing_to_everything(size: tuple[int, int]) -> None:
    image = np.full((*size, 1), 200, np.uint8)

    def light(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        share = images.mean(axis=(1, 2, 3)) / 200
        return np.stack([share, 1 - share], axis=1).astype(np.float32)

    heat = np.random.default_rng(0).random(size, np.float32)
    curves = curves_of(light, image, heat, 0, BLACK)
    by_chance = chance(light, image, heat, 0, BLACK)
    for shares in (curves.shares, by_chance.shares):
        assert (shares[0], shares[-1]) == (0, 1)
        assert np.all(np.diff(shares) > 0)
    assert (curves.deletion[0], curves.deletion[-1]) == (1, 0)
    assert (curves.insertion[0], curves.insertion[-1]) == (0, 1)
    # Where only the amount of light counts, all orders are equal.
    np.testing.assert_allclose(curves.deletion, 1 - curves.shares, atol=1e-5)
    np.testing.assert_allclose(curves.insertion, curves.shares, atol=1e-5)
    assert by_chance.deletion_area[0] == pytest.approx(0.5, abs=0.02)
    assert by_chance.insertion_area == pytest.approx((0.5, 0), abs=0.02)


@pytest.mark.torch
def test_each_layer_s_weights_are_drawn_anew_with_their_mean_and_deviation() -> None:
    from tests.models.test_onnx_network import written

    content, names = written("cnn", hidden=(4, 6))
    network = OnnxGraph(content, [made_layer(name) for name in names])
    drawn = random_weights(network, seed=3)
    assert drawn is not None and drawn == random_weights(network, seed=3)
    assert drawn != random_weights(network, seed=4)
    after = OnnxGraph(drawn, network.layers).weights
    for name, value in network.weights.items():
        new = after[name]
        if name.endswith((".weight", ".bias")) and np.ptp(value):
            assert not np.array_equal(new, value), name
            assert abs(new.mean() - value.mean()) < 3 * value.std(), name
            if value.size > 100:
                assert new.std() == pytest.approx(value.std(), rel=0.25), name
        else:
            assert np.array_equal(new, value), name
