"""Means, deviations and whitening filters are those of the training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from opsin.core.recipe import DataRecipe
from opsin.models import build_network
from opsin.models.build_network import Statistics, statistics_of
from opsin.models.resolve import resolve


def test_mean_and_deviation_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 7, 9, 3), np.uint8)
    images[..., 2] = 9
    found = statistics_of(images, np.arange(50))
    assert found.mean == pytest.approx(images.mean(axis=(0, 1, 2)))
    assert found.deviation[:2] == pytest.approx(images.std(axis=(0, 1, 2))[:2])
    assert found.deviation[2] == 1.0


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_vary_alike_in_every_direction(channels: int) -> None:
    random = np.random.default_rng(0)
    # Smooth images: neighbouring pixels, and the channels, go together.
    rough = random.normal(size=(200, 12, 12, 1)).cumsum(axis=1).cumsum(axis=2)
    mixed = rough + 0.3 * random.normal(size=(200, 12, 12, channels)).cumsum(axis=1)
    images = np.clip(128 + 12 * mixed, 0, 255).astype(np.uint8)
    statistics = statistics_of(images, np.arange(200))
    recipe = resolve(DataRecipe.of("x"), model="resnet", hidden=(4, 4)).model
    network = build_network.build(recipe, (12, 12, channels), 2, statistics=statistics)
    with torch.inference_mode():
        whitened = network.get_submodule("whiten")(
            network.get_submodule("input")(torch.from_numpy(images))
        )
    flat = whitened.permute(0, 2, 3, 1).reshape(-1, 8 * channels)[:, : 4 * channels].double()
    covariance = (flat.T @ flat / len(flat)).numpy()
    assert np.allclose(covariance, np.eye(4 * channels), atol=0.25)
    assert torch.allclose(whitened[:, : 4 * channels], -whitened[:, 4 * channels :])


def test_the_whitening_layer_does_not_learn() -> None:
    recipe = resolve(DataRecipe.of("x"), model="resnet", hidden=(4, 4)).model
    network = build_network.build(recipe, (12, 12, 1), 2, statistics=Statistics([9.0], [9.0]))
    whiten = network.get_submodule("whiten")
    assert isinstance(whiten, nn.Conv2d)
    assert not whiten.weight.requires_grad
    layer = build_network.summarise(network, (12, 12, 1))[1]
    assert (layer.name, layer.parameters, layer.trainable) == ("whiten", 32, 0)


def test_images_without_any_change_are_whitened_to_finite_numbers() -> None:
    images = np.full((5, 6, 6, 3), 7, np.uint8)
    filters = statistics_of(images, np.arange(5)).whitening
    assert filters is not None
    assert np.isfinite(filters).all()
