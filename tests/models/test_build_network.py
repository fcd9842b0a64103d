"""The networks are the tutorials', number by number, and begin with their images' statistics."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from opsin.core.errors import RecipeError
from opsin.core.recipe import DataRecipe
from opsin.models import build_network
from opsin.models.build_network import Statistics, statistics_of
from opsin.models.resolve import resolve


def build(name: str, shape: tuple[int, int, int], classes: int, **options: Any) -> nn.Sequential:
    recipe = resolve(DataRecipe.of("x"), model=name, **options).model
    statistics = Statistics([100.0] * shape[2], [50.0] * shape[2])
    return build_network.build(recipe, shape, classes, statistics=statistics)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "parameters", "trainable"),
    [("mlp", (28, 28, 1), 10, 101_770, 101_770), ("cnn", (32, 32, 3), 3, 289_443, 288_995)],
)
def test_parameters_are_those_of_the_tutorials(
    name: str, shape: tuple[int, int, int], classes: int, parameters: int, trainable: int
) -> None:
    layers = build_network.summarise(build(name, shape, classes), shape)
    assert sum(layer.parameters for layer in layers) == parameters
    assert sum(layer.trainable for layer in layers) == trainable


def test_the_cnn_has_the_layers_of_the_tutorial_in_their_order() -> None:
    layers = build_network.summarise(build("cnn", (32, 32, 3), 3), (32, 32, 3))
    block = ["Conv 3×3 same", "ReLU", "BatchNorm", "Conv 3×3 valid", "ReLU", "MaxPool 2"]
    kinds = ["Normalise", *[*block, "Dropout 0.5"] * 3, "Flatten", "Dense"]
    assert [layer.kind for layer in layers] == kinds
    assert [layer.shape for layer in layers if layer.kind.startswith("MaxPool")] == [
        (32, 15, 15),
        (64, 6, 6),
        (128, 2, 2),
    ]


def test_sizes_depth_activation_and_dropout_are_options() -> None:
    network = build("mlp", (8, 8, 1), 4, hidden=(20, 10), activation="tanh", dropout=0.2)
    names = [name for name, _ in network.named_children()]
    expected = "input flatten dense1 tanh1 dropout1 dense2 tanh2 dropout2 head"
    assert " ".join(names) == expected
    assert not any(
        "dense" in name for name, _ in build("mlp", (8, 8, 1), 4, depth=0).named_modules()
    )
    deep = build_network.summarise(build("resnet", (64, 64, 3), 4, depth=5), (64, 64, 3))
    assert deep[-2].shape == (768,)


@pytest.mark.parametrize(
    ("name", "side", "words"), [("cnn", 8, "--depth 1"), ("cnn", 3, "larger --size")]
)
def test_images_that_are_too_small_are_refused(name: str, side: int, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build(name, (side, side, 1), 2)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_pixels_go_in_as_they_are_and_the_summary_changes_nothing(name: str) -> None:
    network = build(name, (28, 24, 3), 5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    build_network.summarise(network, (28, 24, 3))
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    logits = network(torch.zeros((2, 28, 24, 3), dtype=torch.uint8))
    assert logits.shape == (2, 5)


def test_statistics_are_those_of_the_pixels_and_always_finite() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 7, 9, 3), np.uint8)
    images[..., 2] = 9
    found = statistics_of(images, np.arange(50))
    assert found.mean == pytest.approx(images.mean(axis=(0, 1, 2)))
    assert found.deviation[:2] == pytest.approx(images.std(axis=(0, 1, 2))[:2])
    assert found.deviation[2] == 1.0
    images = np.full((5, 6, 6, 3), 7, np.uint8)
    filters = statistics_of(images, np.arange(5)).whitening
    assert filters is not None
    assert np.isfinite(filters).all()


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
