"""The module computes what the file computes, layer by layer, and says where it cannot."""

from typing import Any

import numpy as np
import pytest

from opsin.core.errors import ModelFileError
from tests.classical.test_fitted_file import content_of, fitted
from tests.onnx_files.made_files import SHAPE, computed, trained

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def written(name: str, **options: Any) -> tuple[bytes, list[str]]:
    from opsin.training.torch_to_onnx import to_onnx

    network, metadata = trained(name, **options)
    layers = [name for name, module in network.named_modules() if not list(module.children())]
    return to_onnx(network, metadata), layers


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"hidden": (12, 7), "activation": "tanh", "dropout": 0.1}),
        ("cnn", {"hidden": (4, 6)}),
        ("resnet", {"hidden": (6, 8, 10)}),
        ("resnet", {"hidden": (6,), "activation": "silu"}),
    ],
)
def test_every_layer_is_that_of_the_file(name: str, options: dict[str, Any]) -> None:
    from opsin.models.onnx_network import TorchNetwork

    content, layers = written(name, **options)
    images = np.random.default_rng(1).integers(0, 256, (5, *SHAPE), np.uint8)
    for layer, expected in computed(content, layers, images=images).items():
        found = TorchNetwork(content, target=layer)(torch.from_numpy(images).float())
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4, err_msg=layer)


def test_the_logits_have_gradients_and_the_layers_are_modules() -> None:
    from opsin.models.onnx_network import TorchNetwork

    content, _ = written("cnn", hidden=(4,))
    network = TorchNetwork(content)
    pixels = torch.full((2, *SHAPE), 90.0, requires_grad=True)
    network(pixels)[:, 1].sum().backward()
    assert pixels.grad is not None and float(pixels.grad.abs().sum()) > 0
    seen = []
    network.layer("block1.conv1").register_forward_hook(lambda *told: seen.append(told[2].shape))
    network(pixels)
    assert seen == [(2, 4, 28, 24)]
    with pytest.raises(KeyError):
        network.layer("block7")


@pytest.mark.parametrize(
    ("name", "classes", "side"), [("logistic", 5, 4), ("svm", 2, 32), ("svm", 3, 32)]
)
def test_smooth_models_without_layers_have_gradients(name: str, classes: int, side: int) -> None:
    from opsin.models.onnx_network import TorchNetwork

    content = content_of(fitted(name, classes, side=side))
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), np.uint8)
    expected = computed(content, ["head"], images=images)["head"]
    found = TorchNetwork(content)(torch.from_numpy(images).float()).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "operator"), [("forest", "TreeEnsembleRegressor"), ("knn", "TopK")]
)
def test_models_that_decide_in_steps_have_none_and_it_is_said(name: str, operator: str) -> None:
    from opsin.models.onnx_network import TorchNetwork

    content = content_of(fitted(name, 3))
    with pytest.raises(ModelFileError, match=rf"operator {operator} has none"):
        TorchNetwork(content)
