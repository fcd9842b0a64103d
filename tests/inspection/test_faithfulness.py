"""A good map passes its checks; noise, a flat map and one of mere edges do not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from opsin.core.metadata import Layer
from opsin.inspection.decision import (
    FaithfulnessVerdict,
    assess_faithfulness,
    chance,
    curves_of,
    random_weights,
)
from opsin.onnx_files.onnx_graph import OnnxGraph

BLACK = np.zeros(1, np.uint8)
WHITE = np.full((28, 28, 1), 255, np.uint8)


def box(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    light = images[:, 6:16, 8:18].mean(axis=(1, 2, 3)) / 255
    return np.stack([light, 1 - light], axis=1).astype(np.float32)


def box_map() -> NDArray[np.float32]:
    heat = np.zeros((28, 28), np.float32)
    heat[6:16, 8:18] = 1
    return heat


def noise(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((28, 28), np.float32)


def verdict_on(
    heat: NDArray[np.float32], random_heat: NDArray[np.float32] | None
) -> FaithfulnessVerdict:
    curves = curves_of(box, WHITE, heat, 0, BLACK)
    return assess_faithfulness(heat, curves, chance(box, WHITE, heat, 0, BLACK), random_heat)


def test_a_map_of_what_decides_passes() -> None:
    curves = curves_of(box, WHITE, box_map(), 0, BLACK)
    assert curves.deletion_area < 0.1 and curves.insertion_area > 0.9
    verdict = verdict_on(box_map(), noise(1))
    assert verdict.trusted and verdict.words == "passes both checks"
    assert json.loads(json.dumps(verdict.to_json()))["reasons"] == []


@pytest.mark.parametrize("smooth", [False, True])
def test_maps_that_know_nothing_of_the_image_pass_seldom(smooth: bool) -> None:
    random = np.random.default_rng(0)
    passed = 0
    for seed in range(40):
        heat = noise(seed)
        if smooth:
            heat = np.roll(box_map(), random.integers(28, size=2), (0, 1))
        passed += verdict_on(heat, noise(seed + 99)).trusted
    assert passed <= 10


def test_what_random_weights_give_as_well_is_refused() -> None:
    verdict = verdict_on(box_map(), 3 * box_map())
    assert verdict.likeness == pytest.approx(1.0) and verdict.sanity is False
    assert verdict.words == (
        "not to be trusted: a network with random weights gives much the same map"
    )


def test_a_flat_map_says_nothing() -> None:
    heat = np.zeros((28, 28), np.float32)
    assert verdict_on(heat, noise(0)).reasons == ("it is the same everywhere",)


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
    layers = [
        Layer(name=name, kind="", shape=(1,), parameters=0, trainable=0, multiply_adds=0)
        for name in names
    ]
    network = OnnxGraph(content, layers)
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
